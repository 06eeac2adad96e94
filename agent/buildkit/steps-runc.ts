import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { oomScores } from '../sys/oom-score.ts';

/**
 * Starts runc with a step's own place in the kernel's choice of whom to kill for want of memory: it would inherit buildkitd's, and of two alike
 * the larger goes, which may be buildkitd. BuildKit has a setting for that and no way to set it (executor/runcexecutor, OOMScoreAdj).
 */
const script = `#!/bin/sh
echo ${oomScores.other} > /proc/self/oom_score_adj
exec runc "$@"
`;

/** Writes the program that buildkitd is to start in runc's place. @returns its path */
export async function writeStepsRunc(folder: string): Promise<string> {
  const path = join(folder, 'steps-runc');
  await writeFile(path, script, { mode: 0o755 });
  return path;
}
