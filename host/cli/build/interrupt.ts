import { BuildvisorError } from '../../../common/errors.ts';

/** Ctrl-C and its like while something runs. */
export interface Interrupt {
  signal: AbortSignal;
  /** The signal that came, if one did. */
  came(): NodeJS.Signals | undefined;
  /** Puts the default behaviour back. */
  release(): void;
}

/**
 * The first SIGINT, SIGTERM or SIGHUP calls the work off in order; a second one ends the program at once, after `giveBack`
 * (which restores the terminal).
 */
export function catchInterrupts(giveBack: () => void): Interrupt {
  const controller = new AbortController();
  let came: NodeJS.Signals | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (came !== undefined) {
      giveBack();
      release();
      process.kill(process.pid, signal);
      return;
    }
    came = signal;
    controller.abort(new BuildvisorError('BUILD_CANCELLED', 'The build was cancelled', { facts: { signal } }));
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const release = (): void => {
    for (const signal of signals) process.removeListener(signal, onSignal);
  };
  for (const signal of signals) process.on(signal, onSignal);
  return { signal: controller.signal, came: () => came, release };
}
