/** Forgets what was put first into a map or a set, until it holds no more than `most`. What is put in anew keeps its place, unless it is deleted first. */
export function keepNewest<Key>(kept: Map<Key, unknown> | Set<Key>, most: number): void {
  for (const oldest of kept.keys()) {
    if (kept.size <= most) return;
    kept.delete(oldest);
  }
}
