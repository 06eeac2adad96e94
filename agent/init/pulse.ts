/** When an agent that runs is taken for dead, in milliseconds. */
export interface PulseLimits {
  /** Between two questions. */
  everyMs: number;
  /** So long without a word. */
  silentMs: number;
}

/** An emulated machine under load takes 20 s to load the agent, and its event loop waits for no build: this is far from both. */
export const usualPulse: PulseLimits = { everyMs: 5_000, silentMs: 90_000 };

/** A watch over somebody who is to answer. */
export interface Pulse {
  /** A sign of life came. */
  beat(): void;
  /** Watches no longer. */
  end(): void;
}

/**
 * Asks at each interval, and calls `onSilent` once when so many questions in a row went by without a sign of life. Questions are
 * counted, not time: a machine that stood still as a whole asked none.
 */
export function watchPulse(options: {
  limits: PulseLimits;
  ask: () => void;
  onSilent: (silentMs: number) => void;
}): Pulse {
  const { limits, ask, onSilent } = options;
  const most = Math.ceil(limits.silentMs / limits.everyMs);
  let unanswered = 0;
  const timer = setInterval(() => {
    if (unanswered >= most) {
      clearInterval(timer);
      onSilent(unanswered * limits.everyMs);
      return;
    }
    unanswered++;
    ask();
  }, limits.everyMs);
  return {
    beat() {
      unanswered = 0;
    },
    end: () => clearInterval(timer),
  };
}
