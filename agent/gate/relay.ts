import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { readTrailers, statusOnly, toHeaders } from './headers.ts';
import { type GrpcStatus, grpcCodes, unavailable } from './status.ts';

/** What was read of a call before it is passed through. */
export interface Kept {
  chunks: Buffer[];
  ended: boolean;
}

/** What one wants to see of a call that passes through. */
export interface Tap {
  /** Bytes of the request, before they go up. */
  request?(chunk: Buffer): void;
  /** Bytes of the answer, before they go down. */
  response?(chunk: Buffer): void;
  /** Whether the call is read to its end even when its client has gone. Asked when that happens. */
  outlivesClient?(): boolean;
  /** Why buildkitd does not answer, for the client of a call that broke. */
  whyGone?(): string | undefined;
  /** The call is over upstream. Called once. */
  ended?(end: RelayEnd): void;
}

/** How a call ended. */
export interface RelayEnd {
  /** What buildkitd answered; absent when it did not come to that. */
  status: GrpcStatus | undefined;
  /** Whether the call was called off on this side: by the client or by {@link Relay.cancel}. */
  calledOff: boolean;
}

/** What stands for an error whose trailers Node could not receive, see `upstreamOptions`: BuildKit puts the whole Dockerfile in. */
const tooLong: GrpcStatus = {
  code: grpcCodes.unknown,
  message:
    "BuildKit's error is too long to pass on, since it holds the whole Dockerfile; the failing step's log tells more",
  details: undefined,
};

/** How to answer: buildkitd sends no date, so the gate adds none. */
const withBody = { waitForTrailers: true, sendDate: false };
const statusAlone = { endStream: true, sendDate: false };

/** One call on its way through. */
export interface Relay {
  /** Calls it off upstream and tells the client: that it is unavailable, and why; without a reason, that it was cancelled. */
  cancel(why?: string): void;
}

/**
 * Passes one call through: request, answer, trailers, resets, and each side's pace to the other. Node's http2 asks for some
 * care, said where it is taken.
 */
export function relay(
  down: ServerHttp2Stream,
  request: OutgoingHttpHeaders,
  up: ClientHttp2Session,
  kept: Kept,
  tap: Tap,
): Relay {
  const upstream = open(up, request, tap);
  if ('code' in upstream) {
    refuse(down, upstream);
    tap.ended?.({ status: upstream, calledOff: false });
    return { cancel: () => undefined };
  }
  let trailers: OutgoingHttpHeaders | undefined;
  let answered = false;
  let calledOff = false;
  let over = false;

  const end = (): void => {
    if (over) return;
    over = true;
    tap.ended?.({ status: trailers ? readTrailers(trailers) : brokenOff(), calledOff });
  };

  /** grpc-go resets a call so when its trailers are longer than it may send (internal/transport/http2_server.go). */
  const brokenOff = (): GrpcStatus | undefined =>
    upstream.rstCode === constants.NGHTTP2_INTERNAL_ERROR && !up.destroyed ? tooLong : undefined;

  for (const chunk of kept.chunks) upstream.write(chunk);
  if (kept.ended) upstream.end();
  else passRequest(down, upstream, tap);

  upstream.on('response', (_headers, flags, raw: string[]) => {
    answered = true;
    const headers = toHeaders(raw);
    const last = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    if (last) trailers = headers;
    if (isOpen(down)) {
      // A call that fails at once has its trailers in its headers and no body.
      down.respond(headers, last ? statusAlone : withBody);
    }
    // Listening any earlier lets data overtake the headers.
    if (last) upstream.resume();
    else passAnswer(upstream, down, tap);
  });
  upstream.on('trailers', (_headers: IncomingHttpHeaders, _flags: number, raw: string[]) => {
    trailers = toHeaders(raw);
  });
  upstream.on('end', () => {
    // Without trailers it was broken off, and the reason is known at 'close'.
    if (trailers) end();
    if (answered && trailers && isOpen(down)) down.end();
  });
  down.on('wantTrailers', () => {
    if (!isOpen(down)) return;
    down.sendTrailers(trailers ?? {});
    // The server has spoken: a client that has not ended its side is not waited for.
    if (!down.readableEnded) down.close(constants.NGHTTP2_NO_ERROR);
  });
  // The reason is in the reset code, read at 'close'; without a listener these would be uncaught.
  upstream.on('error', () => undefined);
  down.on('error', () => undefined);
  upstream.on('close', () => {
    end();
    if (!isOpen(down) || trailers) return;
    const code = upstream.rstCode || constants.NGHTTP2_INTERNAL_ERROR;
    const why = calledOff ? cancelled : brokenOff();
    if (!answered) refuse(down, why ?? unavailable(tap.whyGone?.() ?? `buildkitd ended the call (${code})`));
    else down.close(code);
  });
  down.on('close', () => {
    if (over || upstream.destroyed || upstream.closed) return;
    calledOff = true;
    if (tap.outlivesClient?.()) upstream.resume();
    else upstream.close(down.rstCode || constants.NGHTTP2_CANCEL);
  });

  return {
    cancel(why) {
      if (over) return;
      calledOff = true;
      if (!answered) refuse(down, why === undefined ? cancelled : unavailable(why));
      upstream.close(constants.NGHTTP2_CANCEL);
    },
  };
}

function passRequest(down: ServerHttp2Stream, up: ClientHttp2Stream, tap: Tap): void {
  down.on('data', (chunk: Buffer) => {
    tap.request?.(chunk);
    if (isOpen(up) && !up.write(chunk)) down.pause();
  });
  up.on('drain', () => down.resume());
  down.on('end', () => {
    if (isOpen(up)) up.end();
  });
}

function passAnswer(up: ClientHttp2Stream, down: ServerHttp2Stream, tap: Tap): void {
  up.on('data', (chunk: Buffer) => {
    tap.response?.(chunk);
    if (isOpen(down) && !down.write(chunk)) up.pause();
  });
  down.on('drain', () => up.resume());
}

/** The call to buildkitd, or the status that says why there is none. */
function open(up: ClientHttp2Session, request: OutgoingHttpHeaders, tap: Tap): ClientHttp2Stream | GrpcStatus {
  if (up.destroyed || up.closed) return unavailable(tap.whyGone?.() ?? 'buildkitd does not answer');
  try {
    return up.request(request, { endStream: false });
  } catch (error) {
    // Headers that Node takes from a client and does not send itself.
    return { code: grpcCodes.internal, message: `the call cannot be passed on: ${error}`, details: undefined };
  }
}

const cancelled: GrpcStatus = { code: grpcCodes.cancelled, message: 'the build was cancelled', details: undefined };

/** Ends a call that has no answer yet with a status of our own. */
export function refuse(down: ServerHttp2Stream, { code, message }: GrpcStatus): void {
  if (!isOpen(down) || down.headersSent) return;
  down.resume();
  down.respond(statusOnly(code, message), statusAlone);
  // A client that has not ended its side is not waited for. Not at once: nghttp2 would drop the answer for the reset.
  setImmediate(() => {
    if (isOpen(down) && !down.readableEnded) down.close(constants.NGHTTP2_NO_ERROR);
  });
}

function isOpen(stream: ServerHttp2Stream | ClientHttp2Stream): boolean {
  return !stream.destroyed && !stream.closed;
}
