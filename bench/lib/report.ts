import type { PairsResult } from './pairs.ts';

/** What a bench found. */
export interface Report {
  bench: string;
  results: readonly PairsResult[];
  /** Counts and facts beside the ratios, flat. */
  facts?: Record<string, string | number | boolean>;
  /** The most each ratio may be, by its name, where there is an aim. */
  aims?: Record<string, number>;
}

/**
 * Writes a table for people and, as the last line, one JSON object: `{"bench", "ratios", "spreads", "ms", "rounds", "aims", …facts}`.
 * @param write gets the text; standard output by default
 */
export function report(
  { bench, results, facts = {}, aims = {} }: Report,
  write: (text: string) => void = (text) => process.stdout.write(text),
): void {
  const rows = results.map((result) => tableRow(result, aims[result.name]));
  const head = ['', 'ratio', 'quartiles', 'subject', 'baseline', 'aim'];
  const widths = head.map((cell, column) =>
    Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0), cell.length),
  );
  for (const row of [head, ...rows])
    write(
      `${row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
  const byName = <T>(pick: (result: PairsResult) => T): Record<string, T> =>
    Object.fromEntries(results.map((result) => [result.name, pick(result)]));
  const summary = {
    ...facts,
    bench,
    ratios: byName(({ ratio }) => round(ratio, 3)),
    spreads: byName(({ spread }) => spread.map((value) => round(value, 3))),
    ms: byName(({ subject, baseline }) => [round(subject.medianMs, 1), round(baseline.medianMs, 1)]),
    rounds: byName(({ rounds }) => rounds),
    aims,
  };
  write(`${JSON.stringify(summary)}\n`);
}

function tableRow({ name, ratio, spread, subject, baseline }: PairsResult, aim: number | undefined): string[] {
  return [
    name,
    ratio.toFixed(2),
    spread.map((value) => value.toFixed(2)).join('-'),
    `${subject.name} ${subject.medianMs.toFixed(0)} ms`,
    `${baseline.name} ${baseline.medianMs.toFixed(0)} ms`,
    aim === undefined ? '' : `${aim} ${ratio <= aim ? 'met' : 'missed'}`,
  ];
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
