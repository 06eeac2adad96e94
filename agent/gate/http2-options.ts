import type { ClientSessionOptions, ServerSessionOptions, Settings } from 'node:http2';

/** Flow-control windows in bytes: what may be under way before the reader takes it, a stream and a connection. */
export const windows = { stream: 4 * 1024 ** 2, connection: 64 * 1024 ** 2 };

const settings: Settings = {
  initialWindowSize: windows.stream,
  maxConcurrentStreams: 2 ** 32 - 1,
  maxHeaderListSize: 1024 ** 2,
  enablePush: false,
};

/**
 * What Node's HTTP/2 can receive of headers: nghttp2 takes no value over 64 KiB. Told to buildkitd, which then ends a call
 * whose trailers are longer with `INTERNAL_ERROR`; else its whole connection would break.
 */
const mostHeaders = 64 * 1024;

/**
 * Options of both sides. Node's defaults guard a public web server against its clients; a bake of thousands of targets looks
 * like an attack to them: many streams at once, many of them reset, long header lists.
 */
export const sessionOptions: ServerSessionOptions = {
  settings,
  maxSessionMemory: 4096,
  maxHeaderListPairs: 2 ** 16,
  maxSendHeaderBlockLength: 2 ** 26,
  maxSessionInvalidFrames: 1_000_000,
  maxSessionRejectedStreams: 1_000_000,
  maxOutstandingPings: 1000,
  peerMaxConcurrentStreams: 2 ** 32 - 1,
  streamResetBurst: 1_000_000,
  streamResetRate: 1_000_000,
  // Whatever a client repeats passes as it came.
  strictSingleValueFields: false,
};

/** Options of the gate's connections to buildkitd. */
export const upstreamOptions: ClientSessionOptions = {
  ...sessionOptions,
  settings: { ...settings, maxHeaderListSize: mostHeaders },
};
