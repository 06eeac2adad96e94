import { writeFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';

/** Who goes first when memory ends, from -1000 (never) to 1000 (proc_pid_oom_score_adj(5)). Children inherit it: runc is started with 0 (`writeStepsRunc`). */
export const oomScores = { agent: -900, buildkitd: -500, other: 0 } as const;

/** Sets it; does nothing for a process that has gone, or where it may not be lowered (CAP_SYS_RESOURCE). */
export function setOomScore(pid: number, score: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(score));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) throw error;
  }
}
