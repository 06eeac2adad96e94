import {
  type Client,
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { packageDefinition } from '../../common/descriptors.ts';
import { BuildvisorError } from '../../common/errors.ts';
import type { CacheRecord } from './records.ts';

/** What {@link Control.prune} takes away, in buildkitd's terms (api/services/control/control.proto, PruneRequest). */
export interface PruneOrder {
  /** Any of them selects a record; every record when empty. */
  filters: string[];
  /** Whether internal, frontend and shared records may go too. */
  all: boolean;
  /** Only what was not used for this long, in milliseconds. */
  keepDurationMs: number;
  /** The cache is never brought below. */
  reservedBytes: number;
  /** The cache is brought below. */
  maxUsedBytes: number;
  /** As much is to be free on the volume. With none of the three sizes all that matches goes. */
  minFreeBytes: number;
}

interface WireRecord {
  ID: string;
  Mutable: boolean;
  InUse: boolean;
  Size: number;
  CreatedAt: WireTime | null;
  LastUsedAt: WireTime | null;
  UsageCount: number;
  Description: string;
  RecordType: string;
  Shared: boolean;
  Parents: string[];
}
interface WireTime {
  seconds: number;
  nanos: number;
}
type Answer<T> = (error: ServiceError | null, value?: T) => void;
type ControlClient = Client & {
  DiskUsage(
    request: { filter: string[] },
    options: { deadline: number },
    done: Answer<{ record: WireRecord[] }>,
  ): {
    cancel(): void;
  };
  Prune(request: object): ClientReadableStream<WireRecord>;
};

/** How long buildkitd may take to measure its cache, in milliseconds: it walks the files of each new layer once. */
const usageLimitMs = 300_000;

/** The part of buildkitd's own API that is about its cache. Goes past the gate: it is no client's call. */
export class Control {
  readonly #client: ControlClient;

  constructor(socket: string) {
    const loaded = loadPackageDefinition(packageDefinition('buildkit')) as unknown as {
      moby: { buildkit: { v1: { Control: new (...args: ConstructorParameters<typeof Client>) => ControlClient } } };
    };
    this.#client = new loaded.moby.buildkit.v1.Control(`unix://${socket}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
      'grpc.enable_http_proxy': 0,
      'grpc.max_receive_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
      // buildkitd is started again soon after it died.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1000,
    });
  }

  /** @throws BuildvisorError `BUILDKITD_FAILED`, `TIMED_OUT`, `ABORTED` */
  diskUsage(signal?: AbortSignal): Promise<CacheRecord[]> {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + usageLimitMs };
      const call = this.#client.DiskUsage({ filter: [] }, options, (error, answer) => {
        signal?.removeEventListener('abort', cancel);
        if (error) reject(failure('du', error, signal));
        else resolve((answer?.record ?? []).map(toRecord));
      });
      const cancel = (): void => call.cancel();
      signal?.addEventListener('abort', cancel, { once: true });
      if (signal?.aborted) cancel();
    });
  }

  /**
   * Takes records away, giving each when it is gone. buildkitd never takes what a build uses.
   * @throws BuildvisorError `BUILDKITD_FAILED`, `ABORTED`
   */
  async *prune(order: PruneOrder, signal?: AbortSignal): AsyncGenerator<CacheRecord, void, undefined> {
    signal?.throwIfAborted();
    const call = this.#client.Prune({
      filter: order.filters,
      all: order.all,
      keepDuration: order.keepDurationMs * 1e6,
      reservedSpace: order.reservedBytes,
      maxUsedSpace: order.maxUsedBytes,
      minFreeSpace: order.minFreeBytes,
    });
    const cancel = (): void => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    // A call that is cancelled when nobody reads it any more emits an error, which nobody would hear.
    call.on('error', () => undefined);
    try {
      for await (const record of call) yield toRecord(record as WireRecord);
    } catch (error) {
      throw failure('prune', error as ServiceError, signal);
    } finally {
      signal?.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  close(): void {
    this.#client.close();
  }
}

function toRecord(wire: WireRecord): CacheRecord {
  return {
    id: wire.ID,
    type: wire.RecordType,
    description: wire.Description,
    // -1 while it is not known.
    sizeBytes: Math.max(0, wire.Size),
    createdAtMs: toMs(wire.CreatedAt),
    lastUsedAtMs: toMs(wire.LastUsedAt),
    usageCount: wire.UsageCount,
    inUse: wire.InUse,
    shared: wire.Shared,
    mutable: wire.Mutable,
    parents: wire.Parents,
  };
}

function toMs(time: WireTime | null): number {
  return time === null ? 0 : time.seconds * 1000 + time.nanos / 1e6;
}

function failure(what: string, error: ServiceError, signal: AbortSignal | undefined): BuildvisorError {
  if (signal?.aborted) return new BuildvisorError('ABORTED', `The ${what} was called off`, { cause: signal.reason });
  return new BuildvisorError('BUILDKITD_FAILED', `buildkitd failed at ${what}: ${error.details ?? error.message}`, {
    cause: error,
    facts: { grpcCode: error.code ?? -1 },
    retryable: true,
  });
}
