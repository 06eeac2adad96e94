/** Turns plain async functions into grpc-js handlers: errors, cancellation, backpressure and the protocol's version are done here once. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  ServerDuplexStream,
  ServerWritableStream,
} from '@grpc/grpc-js';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { toStatus } from '../../common/grpc-errors.ts';
import { protocolKey, protocolVersion } from '../../common/protocol.ts';
import type { Logger } from '../log.ts';
import { drained } from './drained.ts';

/** What a call's function gets besides its request. */
export interface Call {
  /** Fires when the client has gone or called it off. */
  signal: AbortSignal;
}

/** Sends a message; resolves when the next may be sent. Does nothing once the client has gone. */
export type Send<Out> = (message: Out) => Promise<void>;

/** What the three kinds of call have in common. */
interface AnyCall {
  metadata: { get(key: string): (string | Buffer)[] };
  getPath(): string;
  cancelled: boolean;
  on(event: 'cancelled', listener: () => void): unknown;
}

/** Makes handlers that log what fails in a way it should not. */
export class Handlers {
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** One request, one answer. */
  unary<In, Out>(work: (request: In, call: Call) => Out | Promise<Out>): handleUnaryCall<In, Out> {
    return (call, answer) => {
      const signal = signalOf(call);
      this.#run(call, async () => work(call.request, { signal })).then(
        (response) => answer(null, response),
        (error: unknown) => answer(toStatus(error)),
      );
    };
  }

  /** One request, many answers. */
  stream<In, Out>(
    work: (request: In, send: Send<Out>, call: Call) => Promise<void>,
  ): handleServerStreamingCall<In, Out> {
    return (call) => {
      const signal = signalOf(call);
      this.#finish(
        call,
        this.#run(call, () => work(call.request, sender(call, signal), { signal })),
      );
    };
  }

  /** Many requests, many answers. The requests end when the client has said all; they fail when it goes before that. */
  duplex<In, Out>(
    work: (requests: AsyncIterable<In>, send: Send<Out>, call: Call) => Promise<void>,
  ): handleBidiStreamingCall<In, Out> {
    return (call) => {
      const signal = signalOf(call);
      this.#finish(
        call,
        this.#run(call, () => work(requestsOf(call, signal), sender(call, signal), { signal })),
      );
    };
  }

  async #run<Out>(call: AnyCall, work: () => Promise<Out>): Promise<Out> {
    checkProtocol(call);
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof BuildvisorError)) this.#log.error({ call: call.getPath(), err: error }, 'call failed');
      throw error;
    }
  }

  #finish<Out>(call: ServerWritableStream<unknown, Out> | ServerDuplexStream<unknown, Out>, done: Promise<void>): void {
    done.then(
      () => call.end(),
      (error: unknown) => {
        call.emit('error', toStatus(error));
      },
    );
  }
}

/** A client of another version is refused; one that tells none, such as grpcurl, is served. */
function checkProtocol(call: AnyCall): void {
  const [version] = call.metadata.get(protocolKey);
  if (version === undefined || version === String(protocolVersion)) return;
  const text = String(version).slice(0, 20);
  throw new BuildvisorError(
    'PROTOCOL_MISMATCH',
    `The client speaks version ${text} of the protocol, this machine version ${protocolVersion}`,
    {
      facts: { client: text, machine: protocolVersion },
      hint: 'Use a client and a machine of the same release.',
    },
  );
}

function signalOf(call: AnyCall): AbortSignal {
  const controller = new AbortController();
  const abort = (): void => controller.abort(gone());
  call.on('cancelled', abort);
  if (call.cancelled) abort();
  return controller.signal;
}

function sender<Out>(
  call: ServerWritableStream<unknown, Out> | ServerDuplexStream<unknown, Out>,
  signal: AbortSignal,
): Send<Out> {
  return async (message) => {
    if (signal.aborted || call.destroyed) return;
    if (!call.write(message)) await drained(call, signal);
  };
}

/** grpc-js ends the requests of a call that was cancelled just like those of one that was half closed; here that is an error. */
async function* requestsOf<In>(call: ServerDuplexStream<In, unknown>, signal: AbortSignal): AsyncGenerator<In> {
  try {
    for await (const request of call.iterator({ destroyOnReturn: false })) yield request as In;
  } catch (error) {
    throw hasErrno(error, 'ERR_STREAM_PREMATURE_CLOSE') ? gone() : error;
  }
  // The end of a call that was cancelled may come a turn before its cancellation.
  await nextTurn();
  signal.throwIfAborted();
  if (call.cancelled) throw gone();
}

function gone(): BuildvisorError {
  return new BuildvisorError('ABORTED', 'The client went away');
}
