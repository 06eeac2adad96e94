/** How far something long has come. */
export interface Progress {
  /** What is being done, such as `checking the cache volume`. */
  what: string;
  done: number;
  /** 0 where it is not known. */
  total: number;
  /** What is counted: `percent`, `bytes`, `entries`, `ms`. */
  unit: 'percent' | 'bytes' | 'entries' | 'ms';
}

/** Told how far something has come; with `undefined` that it is over. Must not throw. */
export type OnProgress = (progress: Progress | undefined) => void;

/** How often {@link withElapsed} tells, in milliseconds. */
const everyMs = 1000;

/** Waits for work that cannot tell how far it has come, and tells each second how long that has taken, of at most `limitMs`. */
export async function withElapsed<T>(
  onProgress: OnProgress,
  { what, limitMs }: { what: string; limitMs: number },
  work: Promise<T>,
): Promise<T> {
  const start = performance.now();
  const timer = setInterval(() => {
    onProgress({ what, done: Math.round(performance.now() - start), total: limitMs, unit: 'ms' });
  }, everyMs);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    onProgress(undefined);
  }
}
