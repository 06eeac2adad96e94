import type { SolveStatus } from '../../../common/status.ts';

/** How a build ended, for the last lines of its progress. */
export type Ending = 'done' | 'failed' | 'cancelled';

/** One way of showing a build. All output goes to the stream it was made with. */
export interface Progress {
  /** Takes in a status message; times are the builder's clock, or the `local` one for steps of this program itself. */
  update(status: SolveStatus, clock?: 'builder' | 'local'): void;
  /** Called about ten times a second: redraws what ticks. */
  tick(): void;
  /** Prints what is left, the failing step's log and the warnings, and gives the terminal back. */
  end(ending: Ending): void;
}

/** The modes `--progress` takes. */
export const progressModes = ['auto', 'tty', 'plain', 'rawjson', 'quiet'] as const;
/** One of {@link progressModes}. */
export type ProgressMode = (typeof progressModes)[number];

/** What a renderer writes to; `process.stderr` is one. */
export interface Output {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  rows?: number | undefined;
}

/** What `auto` becomes: `tty` on a terminal that can move its cursor, else `plain`. */
export function resolveMode(mode: ProgressMode, out: Output, env: NodeJS.ProcessEnv): Exclude<ProgressMode, 'auto'> {
  if (mode !== 'auto') return mode;
  return out.isTTY && env.TERM !== 'dumb' ? 'tty' : 'plain';
}

/** Whether to colour: on a terminal, unless NO_COLOR is set to anything (no-color.org) or the terminal is a dumb one. */
export function wantsColours(out: Output, env: NodeJS.ProcessEnv): boolean {
  return out.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
}

/** Makes the renderer of a mode. Only the one asked for is loaded. */
export async function openProgress(
  mode: Exclude<ProgressMode, 'auto'>,
  out: Output,
  env: NodeJS.ProcessEnv = process.env,
  now: () => number = Date.now,
): Promise<Progress> {
  const colours = wantsColours(out, env);
  if (mode === 'tty') return new (await import('./tty.ts')).TtyProgress({ out, colours, now });
  if (mode === 'plain') return new (await import('./plain.ts')).PlainProgress({ out, colours, now });
  if (mode === 'rawjson') return new (await import('./rawjson.ts')).RawJsonProgress(out);
  return new (await import('./quiet.ts')).QuietProgress({ out, colours, now });
}
