import { type ClientReadableStream, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { buildvisorServices } from '../../common/descriptors.ts';
import { fromServiceError } from '../../common/grpc-errors.ts';
import { protocolKey, protocolVersion } from '../../common/protocol.ts';
import { openBuild } from './build-stream.ts';
import { readMessages } from './read-messages.ts';
import { openShell } from './shell-session.ts';
import type { ApiClient, CallOptions } from './types.ts';

/** Milliseconds for a call that answers once. */
const defaultLimitMs = 10_000;
/** Milliseconds for a cancel: the guest gives a build's processes 30 s to end. */
const cancelLimitMs = 40_000;
/** Milliseconds for the cache to be measured: every file of each new layer is looked at. */
const usageLimitMs = 300_000;
/** Milliseconds of a trim, and for its last stretch to end. */
const usualTrimMs = 60_000;
const trimSlackMs = 30_000;
/** Milliseconds for a volume to be frozen: everything is written out before. */
const freezeWaitMs = 70_000;
/** A status of a build with thousands of steps is a few MB. */
const maxMessageBytes = 64 * 1024 * 1024;

const channelOptions = {
  'grpc.max_receive_message_length': maxMessageBytes,
  'grpc.max_send_message_length': maxMessageBytes,
  // A guest that hangs does not close its connections.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.default_authority': 'localhost',
  'grpc.enable_http_proxy': 0,
  // Two clients of one VM must not share a connection: closing one would close the other's.
  'grpc.use_local_subchannel_pool': 1,
};

/** A client of a VM's API on a Unix socket. Connects with the first call; a VM that is not there answers `VM_NOT_RUNNING`. */
export function connectApi(socketPath: string): ApiClient {
  const { Machine, Builds, Cache, Shell, Volumes } = buildvisorServices();
  const target = `unix:${socketPath}`;
  const insecure = credentials.createInsecure();
  const machine = new Machine(target, insecure, channelOptions);
  const builds = new Builds(target, insecure, { ...channelOptions, channelOverride: machine.getChannel() });
  const cache = new Cache(target, insecure, { ...channelOptions, channelOverride: machine.getChannel() });
  const volumes = new Volumes(target, insecure, { ...channelOptions, channelOverride: machine.getChannel() });
  const shells = new Shell(target, insecure, { ...channelOptions, channelOverride: machine.getChannel() });
  return {
    info: (options) => answer((done, deadline) => machine.info({}, metadata(), { deadline }, done), options),
    watchState: ({ signal } = {}) => stream(() => machine.watchState({}, metadata()), signal),
    async shutdown(reason, options) {
      await answer((done, deadline) => machine.shutdown({ reason }, metadata(), { deadline }, done), options);
    },
    build: (spec, context, { signal } = {}) => openBuild(() => builds.build(metadata()), { spec, context, signal }),
    watch: (id, { after = 0, signal } = {}) => stream(() => builds.watch({ id, after }, metadata()), signal),
    get: (id, options) => answer((done, deadline) => builds.get({ id }, metadata(), { deadline }, done), options),
    async list({ states = [], limit = 0, ...options } = {}) {
      const { builds: found } = await answer(
        (done: Done<{ builds: Awaited<ReturnType<ApiClient['list']>> }>, deadline) =>
          builds.list({ states: [...states], limit }, metadata(), { deadline }, done),
        options,
      );
      return found;
    },
    cancel: (id, options) =>
      answer((done, deadline) => builds.cancel({ id }, metadata(), { deadline }, done), {
        limitMs: cancelLimitMs,
        ...options,
      }),
    diskUsage: ({ kinds = [], olderThanMs = 0, ...options } = {}) =>
      answer((done, deadline) => cache.diskUsage({ kinds: [...kinds], olderThanMs }, metadata(), { deadline }, done), {
        limitMs: usageLimitMs,
        ...options,
      }),
    prune: ({ kinds = [], signal, ...wanted } = {}) =>
      stream(() => cache.prune({ kinds: [...kinds], ...present(wanted) }, metadata()), signal),
    async trim({ trimLimitMs = usualTrimMs, ...options } = {}) {
      const limitMs = trimLimitMs + trimSlackMs;
      const { volumes: trimmed } = await answer(
        (done: Done<{ volumes: Awaited<ReturnType<ApiClient['trim']>> }>, deadline) =>
          volumes.trim({ limitMs: trimLimitMs }, metadata(), { deadline }, done),
        { limitMs, ...options },
      );
      return trimmed;
    },
    freeze: (freezeMs = 0, options) =>
      answer((done, deadline) => volumes.freeze({ limitMs: freezeMs }, metadata(), { deadline }, done), {
        limitMs: freezeWaitMs,
        ...options,
      }),
    thaw: (options) => answer((done, deadline) => volumes.thaw({}, metadata(), { deadline }, done), options),
    shell: (options = {}) => openShell(() => shells.open(metadata()), options),
    close: () => machine.close(),
  };
}

type Done<T> = (error: ServiceError | null, value?: T) => void;

/** A call that answers once, within its limit. */
function answer<T>(
  start: (done: Done<T>, deadline: number) => { cancel(): void },
  { signal, limitMs = defaultLimitMs }: CallOptions = {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(fromServiceError(signal.reason));
    const cancel = (): void => call.cancel();
    const call = start((error, value) => {
      signal?.removeEventListener('abort', cancel);
      if (error !== null || value === undefined) reject(fromServiceError(error));
      else resolve(value);
    }, Date.now() + limitMs);
    signal?.addEventListener('abort', cancel, { once: true });
  });
}

/** The messages of a call that answers many times. The call is made when the first one is asked for. */
async function* stream<T>(
  start: () => ClientReadableStream<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  if (signal?.aborted) throw fromServiceError(signal.reason);
  yield* readMessages(start(), signal);
}

/** Without the keys that are `undefined`. */
function present<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** Metadata of every call of ours. */
function metadata(): Metadata {
  const made = new Metadata();
  made.set(protocolKey, String(protocolVersion));
  return made;
}
