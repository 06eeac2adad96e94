import type { Logger } from '../log.ts';
import type { Platform } from '../sys/platform.ts';

/** A worker as buildkitd tells of it. */
export interface WorkerInfo {
  id: string;
  /** Such as `linux/amd64`. */
  platforms: string[];
  labels: Record<string, string>;
  /** Version of buildkitd, such as `v0.33.1`. */
  version: string;
}

/** What a {@link Buildkitd} needs. */
export interface BuildkitdOptions {
  platform: Platform;
  /** Path of the rendered `buildkitd.toml`. */
  configPath: string;
  /** BuildKit's root directory, on a volume. */
  root: string;
  /** Path of the Unix socket it listens on. */
  socket: string;
  /** Clip of step logs, -1 for none: bytes a step, bytes a second. */
  stepLog?: { maxBytes: number; maxBytesPerSecond: number };
  log: Logger;
}

/** How buildkitd is. `restarting` comes after it died, `failed` when it is given up. */
export type BuildkitdState = 'idle' | 'starting' | 'ready' | 'restarting' | 'stopping' | 'stopped' | 'failed';

/** Runs buildkitd: starts it, knows when it answers, starts it again when it dies, stops it. */
export declare class Buildkitd {
  constructor(options: BuildkitdOptions);
  /** How it is now. */
  readonly state: BuildkitdState;
  /** How often it has been started again. */
  readonly restarts: number;
  /** Process id while it runs. */
  readonly pid: number | undefined;
  /** Spawns it; returns at once. `ready` tells the rest. */
  start(): void;
  /** The worker, once it answers. Rejects with `BUILDKITD_FAILED` when it exits first. */
  readonly ready: Promise<WorkerInfo>;
  /** Calls `listener` at each change of state. @returns a function that ends that */
  onChange(listener: (state: BuildkitdState, error?: Error) => void): () => void;
  /** SIGTERM, a wait, SIGKILL of all its processes. Resolves when none is left. */
  stop(signal?: AbortSignal): Promise<void>;
}
