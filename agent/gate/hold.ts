import type { ServerHttp2Stream } from 'node:http2';
import { toBuildvisorError } from '../../common/errors.ts';
import { MessageReader } from './messages.ts';

/** Whoever decides when a solve may go to buildkitd. */
export interface Admission {
  /** Whether a solve may go at once. */
  readonly isOpen: boolean;
  /** Resolves when it may; rejects with the BuildvisorError of what it could not wait for, or of the signal. */
  enter(signal: AbortSignal): Promise<void>;
}

/** Lets every solve go at once. */
export const openAdmission: Admission = { isOpen: true, enter: () => Promise.resolve() };

/** How long the Status call of a solve that has not come yet is held, in milliseconds. */
const statusLimitMs = 1000;

/**
 * Holds the calls of solves that may not begin yet: the Solve itself, and its Status, for which buildkitd gives up after six
 * seconds without a solve of that name (solver/jobs.go, Get).
 */
export class Holds {
  readonly #admission: Admission;
  /** Solves that are held, by name; each settles when it goes on or is given up. */
  readonly #held = new Map<string, PromiseWithResolvers<void>>();

  constructor(admission: Admission) {
    this.#admission = admission;
  }

  /** Whether calls need not be looked at. */
  get isOpen(): boolean {
    return this.#admission.isOpen && this.#held.size === 0;
  }

  /** Waits until a Solve may go. Rejects when it may not. */
  async solve(ref: string, stream: ServerHttp2Stream): Promise<void> {
    if (this.#admission.isOpen) return;
    const held = Promise.withResolvers<void>();
    this.#held.set(ref, held);
    try {
      await this.#admission.enter(whileOpen(stream));
    } finally {
      if (this.#held.get(ref) === held) this.#held.delete(ref);
      held.resolve();
    }
  }

  /** Waits until the solve of a Status is no longer held. It may be asked for just before its solve comes. */
  async status(ref: string): Promise<void> {
    for (let waited = 0; waited < statusLimitMs && !this.#held.has(ref); waited += 50)
      await new Promise((resolve) => setTimeout(resolve, 50));
    await this.#held.get(ref)?.promise;
  }
}

/** Fires when the stream's client has gone. */
function whileOpen(stream: ServerHttp2Stream): AbortSignal {
  const controller = new AbortController();
  if (stream.destroyed || stream.closed) controller.abort();
  stream.once('close', () => controller.abort());
  return controller.signal;
}

/**
 * Reads a call's first message and puts its bytes back, as if they had not been read. The call is paused after it.
 * @returns `undefined` when the call ends before that, or has no message that can be read
 */
export function peekMessage(stream: ServerHttp2Stream): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let first: Buffer | undefined;
    const reader = new MessageReader((message) => {
      first ??= message;
    });
    const done = (): void => {
      stream.off('data', onData).off('end', done).off('close', done);
      resolve(first);
    };
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      reader.push(chunk);
      if (first === undefined && reader.broken === undefined) return;
      stream.pause();
      stream.unshift(Buffer.concat(chunks));
      done();
    };
    stream.on('data', onData).on('end', done).on('close', done);
  });
}

/** What a client is told of a solve that may not begin. */
export function refusalOf(error: unknown): string {
  const { message, hint } = toBuildvisorError(error);
  return hint === undefined ? message : `${message}. ${hint}`;
}
