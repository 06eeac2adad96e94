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
