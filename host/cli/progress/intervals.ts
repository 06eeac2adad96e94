/** A stretch of time in which a step ran, in milliseconds; `stop` is absent while it runs. */
export interface Interval {
  start: number;
  stop: number | undefined;
}

/** Adds a stretch, or ends the one with the same start. A step that is tried again has several. */
export function addInterval(intervals: Interval[], start: number, stop: number | undefined): void {
  const same = intervals.find((interval) => interval.start === start);
  if (same) same.stop = stop;
  else intervals.push({ start, stop });
}

/** Milliseconds covered by the stretches, overlaps counted once; those that run end at `now`. */
export function spanOf(intervals: readonly Interval[], now: number): number {
  const sorted = intervals.toSorted((a, b) => a.start - b.start);
  let covered = 0;
  let until = Number.NEGATIVE_INFINITY;
  for (const { start, stop } of sorted) {
    const end = stop ?? now;
    covered += Math.max(0, end - Math.max(start, until));
    until = Math.max(until, end);
  }
  return covered;
}
