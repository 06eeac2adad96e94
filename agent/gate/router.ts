import { readFields, readString, writeString } from '../../common/protobuf.ts';
import type { Logger } from '../log.ts';
import type { Call, CallTap, Route } from './call.ts';
import { type Holds, refusalOf } from './hold.ts';
import { MessageReader } from './messages.ts';
import type { OwnCalls } from './own-calls.ts';
import type { Solve, Solves } from './solves.ts';
import { type GrpcStatus, grpcCodes, unavailable } from './status.ts';

const control = '/moby.buildkit.v1.Control';

/** What a {@link Router} needs. */
export interface RouterOptions {
  solves: Solves;
  holds: Holds;
  own: OwnCalls;
  log: Logger;
}

/** Decides about each call: all pass at once, but for those of solves that are held. */
export class Router {
  readonly #options: RouterOptions;
  /** Set once no more solves are taken. */
  refusal: string | undefined;

  constructor(options: RouterOptions) {
    this.#options = options;
  }

  /** The route of a call. */
  readonly route: Route = (call) => {
    switch (call.path) {
      case `${control}/Solve`:
        return this.#solve(call);
      case `${control}/Status`:
        return this.#status(call);
      default:
        call.open();
        return {};
    }
  };

  #solve(call: Call): CallTap {
    const { solves, holds, log } = this.#options;
    if (this.refusal !== undefined && call.origin.build === undefined) {
      call.answer(unavailable(this.refusal));
      return {};
    }
    let solve: Solve | undefined;
    let response: Buffer | undefined;
    const begin = (ref: string, internal: boolean): void => {
      if (call.isOver) return;
      // What a client asks for its own sake, such as buildx to learn what buildkitd can do, is no build.
      if (!internal) solve = solves.begin(ref, call.origin.build, () => this.#ownStatus(ref));
      if (solve) solve.cancel = (why) => call.answer(why === undefined ? cancelled : unavailable(why));
      call.open();
    };
    const requests = new MessageReader((message) => {
      if (call.isOpen) return;
      const { ref, internal } = readSolveRequest(message);
      if (holds.isOpen || internal || solves.isKnown(ref)) begin(ref, internal);
      else
        holds.solve(ref, call).then(
          () => begin(ref, internal),
          (error: unknown) => {
            log.info({ error: refusalOf(error) }, 'a build that waited was refused');
            call.answer(unavailable(refusalOf(error)));
          },
        );
    });
    const responses = new MessageReader((message) => {
      response = message;
    });
    return {
      request: (chunk) => {
        requests.push(chunk);
        if (requests.broken) call.open();
      },
      response: (chunk) => responses.push(chunk),
      ended: (end) => {
        if (solve) solves.end(solve, end, response);
      },
    };
  }

  #status(call: Call): CallTap {
    const { solves, holds, log } = this.#options;
    let stream: ReturnType<Solves['openStatus']> | undefined;
    const requests = new MessageReader((message) => {
      const ref = readString(message, 1);
      const begin = (): void => {
        if (call.isOver) return;
        stream ??= solves.openStatus(ref);
        call.open();
      };
      if (holds.isOpen || solves.isKnown(ref)) begin();
      else void holds.status(ref).then(begin);
    });
    const responses = new MessageReader((message) => {
      if (stream) solves.status(stream, message);
    });
    return {
      request: (chunk) => {
        requests.push(chunk);
        if (requests.broken) call.open();
      },
      response: (chunk) => responses.push(chunk),
      outlivesClient: () => stream !== undefined && solves.isNeeded(stream),
      ended: () => {
        const broken = requests.broken ?? responses.broken;
        if (broken) log.warn({ ref: stream?.ref, error: broken.message }, 'a build was not recorded in full');
        if (stream) solves.closeStatus(stream);
      },
    };
  }

  /** Watches a solve whose client does not. buildkitd keeps the statuses of a finished build, so that this is never too late. */
  #ownStatus(ref: string): void {
    const { solves, own } = this.#options;
    const stream = solves.openStatus(ref);
    own.start({
      path: `${control}/Status`,
      message: writeString(1, ref),
      onMessage: (message) => solves.status(stream, message),
      onEnd: () => solves.closeStatus(stream),
    });
  }
}

const cancelled: GrpcStatus = { code: grpcCodes.cancelled, message: 'the build was cancelled', details: undefined };

/** What matters here of a SolveRequest: `Ref` and `Internal`. */
function readSolveRequest(message: Buffer): { ref: string; internal: boolean } {
  const request = { ref: '', internal: false };
  for (const { number, bytes, value } of readFields(message)) {
    if (number === 1) request.ref = bytes?.toString() ?? '';
    else if (number === 11) request.internal = value === 1;
  }
  return request;
}
