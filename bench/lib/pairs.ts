import { BuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import { median, quantile } from './statistics.ts';

/** One of the two that are compared. */
export interface Side {
  /** What it is called in the table and in errors. */
  name: string;
  /**
   * Does it once. The whole call counts, unless it gives the milliseconds that do.
   * @param round from 0; negative while warming up, so that a run can make inputs of its own
   */
  run(round: number, signal: AbortSignal): Promise<number | undefined>;
}

/** What is compared, and how often. */
export interface Pairs {
  /** The name of the ratio in the result. */
  name: string;
  /** What is measured. */
  subject: Side;
  /** What it is measured against. */
  baseline: Side;
  /** Pairs that count. An odd number has a pair in the middle. */
  rounds: number;
  /** Pairs before those, thrown away. Default 1. */
  warmUps?: number;
  /** Limit of one run in milliseconds. Default 5 minutes. */
  limitMs?: number;
  /** Told of each pair that counts. */
  onPair?: (round: number, subjectMs: number, baselineMs: number) => void;
  signal?: AbortSignal | undefined;
}

/** The outcome of a comparison; times in milliseconds. */
export interface PairsResult {
  name: string;
  /** Median of the pairs' ratios, subject to baseline: below 1 the subject is faster. */
  ratio: number;
  /** Lower and upper quartile of the ratios. */
  spread: [number, number];
  subject: { name: string; medianMs: number };
  baseline: { name: string; medianMs: number };
  rounds: number;
}

const defaultLimitMs = 300_000;

/**
 * Runs both sides in turn, so that whatever slows the machine for a while slows both, and changes who is first from pair to
 * pair, so that neither always finds the caches the other has warmed.
 * @throws BuildvisorError `TIMED_OUT`, `ABORTED`; `COMMAND_FAILED` naming the side and the round, its cause kept
 */
export async function runPairs(pairs: Pairs): Promise<PairsResult> {
  const { name, subject, baseline, rounds, warmUps = 1 } = pairs;
  if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError(`rounds is ${rounds}`);
  const times: { subject: number; baseline: number }[] = [];
  for (let round = -warmUps; round < rounds; round++) {
    const order = round % 2 === 0 ? ([subject, baseline] as const) : ([baseline, subject] as const);
    const taken = new Map<Side, number>();
    for (const side of order) taken.set(side, await timed(side, round, pairs));
    const pair = { subject: taken.get(subject) ?? Number.NaN, baseline: taken.get(baseline) ?? Number.NaN };
    if (round < 0) continue;
    times.push(pair);
    pairs.onPair?.(round, pair.subject, pair.baseline);
  }
  const ratios = times.map((pair) => pair.subject / pair.baseline);
  return {
    name,
    ratio: median(ratios),
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    subject: { name: subject.name, medianMs: median(times.map((pair) => pair.subject)) },
    baseline: { name: baseline.name, medianMs: median(times.map((pair) => pair.baseline)) },
    rounds,
  };
}

async function timed(side: Side, round: number, { limitMs = defaultLimitMs, signal }: Pairs): Promise<number> {
  const what = `${side.name}, round ${round}`;
  return withLimit({ limitMs, what, signal }, async (inner) => {
    const begun = performance.now();
    const own = await side.run(round, inner).catch((cause: unknown) => {
      throw new BuildvisorError('COMMAND_FAILED', `${what} failed: ${String(cause)}`, { cause, facts: { round } });
    });
    const ms = own ?? performance.now() - begun;
    if (!(ms > 0 && ms < Number.POSITIVE_INFINITY)) throw new RangeError(`${what} took ${ms} ms`);
    return ms;
  });
}
