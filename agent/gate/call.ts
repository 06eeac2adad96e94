import type { Origin } from './recorder.ts';
import type { GrpcStatus } from './status.ts';

/** A header field: name in lower case and value, both as latin1 strings. Pseudo-headers come first in a list (RFC 9113, 8.3). */
export type HeaderField = readonly [name: string, value: string];

/** A client's call, as what decides about it sees it. */
export interface Call {
  /** The method, `/package.Service/Method`. */
  readonly path: string;
  /** Where the client's connection comes from. */
  readonly origin: Origin;
  /** As the client sent them; may be replaced until `open`. */
  headers: HeaderField[];
  /** When it came, performance.now(). */
  readonly arrivedAt: number;
  /** Whether it was let go to buildkitd. */
  readonly isOpen: boolean;
  /** Whether it has ended, whoever ended it. */
  readonly isOver: boolean;
  /** Lets it go to buildkitd: its headers, then what was kept of it, then what comes. Does nothing when it is open or over. */
  open(): void;
  /**
   * Ends the call in buildkitd's place. Once it is open it is called off upstream as well. Does nothing when it is over.
   * @param message an answer's message, without gRPC's frame
   * @param trailers sent beside the status
   */
  answer(status: GrpcStatus, message?: Buffer, trailers?: HeaderField[]): void;
  /**
   * Sends the beginning of the answer before the call goes to buildkitd, whose own answer must begin with the same bytes: they are
   * then left out. For a client that gives up when it hears nothing. Only while the call is held, and once.
   * @param bytes as they are in DATA, gRPC's frames around messages and all
   * @returns whether they were sent: not when the client takes less than that
   */
  answerEarly(bytes: Buffer): boolean;
  /** Is called once when the call is over: reset by its client or the client gone, answered, or ended upstream. At once if it is over already. */
  whenOver(then: () => void): void;
}

/** What a route wants to see of a call. Called in the middle of a stream: must not throw or block. */
export interface CallTap {
  /** Bytes of the request as they come, also while the call is held. They are only lent: keep a copy. */
  request?(chunk: Buffer): void;
  /** The client has ended its side: no more comes of the request. */
  requestEnded?(): void;
  /** Bytes of the answer as they come. They are only lent: keep a copy. */
  response?(chunk: Buffer): void;
  /** Whether the call is read to its end even when its client has gone. Asked when that happens. */
  outlivesClient?(): boolean;
  /** What the client is told in place of buildkitd's end, and what is sent before that; buildkitd's own when there is nothing. */
  ending?(status: GrpcStatus): InsteadOfEnd | undefined;
  /** The call is over, upstream as well. Called once. */
  ended?(end: CallEnd): void;
}

/** What a client is told in place of buildkitd's end. */
export interface InsteadOfEnd {
  status: GrpcStatus;
  /** A last message, without gRPC's frame. It is sent when the client's window has room for it at once. */
  message: Buffer;
}

/** How a call ended. */
export interface CallEnd {
  /** What buildkitd answered, or what was answered in its place; absent when it did not come to that. */
  status: GrpcStatus | undefined;
  /** Whether it was called off on this side: by the client, by its going away, or by `Call.answer` once it was open. */
  calledOff: boolean;
}

/** Decides about a call: calls `call.open()` at once or later, or answers it. Must not throw. */
export type Route = (call: Call) => CallTap;
