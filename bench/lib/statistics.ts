/** The value below which the part `q` (0 to 1) of the values lies, between two of them by their distance. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  if (low === undefined || high === undefined) throw new RangeError('There is no quantile of nothing');
  return low + (high - low) * (at - Math.floor(at));
}

/** The value in the middle; the mean of the two middle ones when there are two. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}
