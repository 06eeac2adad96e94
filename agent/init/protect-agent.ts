import { readFileSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { hasErrno } from '../../common/errors.ts';
import { agentCgroup, enableControllers, joinCgroup, makeCgroup, writeCgroup } from '../sys/cgroup.ts';
import { oomScores, setOomScore } from '../sys/oom-score.ts';

/** Bytes of memory that builds cannot take from the agent: with gRPC loaded it has 76 MB, and more while it passes output on. */
const keptBytes = 128 * 1024 ** 2;

/**
 * Part of the machine's memory that the kernel keeps free, and the least of it. For huge pages it keeps 66 MB, whatever the machine has
 * (mm/khugepaged.c, set_recommended_min_free_kbytes): in one of 1 GiB the agent then has no room for its own program.
 */
const keptFree = { share: 1 / 64, leastKiB: 8 * 1024 };
const minFree = '/proc/sys/vm/min_free_kbytes';

/** Has the kernel of a small machine keep less memory free. */
export function keepLessFree(say: (text: string) => void): void {
  const wanted = Math.max(keptFree.leastKiB, Math.floor((totalmem() / 1024) * keptFree.share));
  try {
    if (Number(readFileSync(minFree, 'latin1')) > wanted) writeFileSync(minFree, String(wanted));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'EACCES', 'EPERM', 'EROFS')) throw error;
    say(`the kernel keeps as much memory free as it likes: ${error.message}`);
  }
}

/**
 * Puts the agent into a cgroup of its own whose memory is not reclaimed for others, and last in the kernel's choice of whom to
 * kill. A guest without the memory controller does without the first.
 */
export function protectAgent(pid: number, say: (text: string) => void): void {
  setOomScore(pid, oomScores.agent);
  try {
    makeCgroup(agentCgroup);
    enableControllers(agentCgroup.slice(0, agentCgroup.lastIndexOf('/')), ['memory', 'pids']);
    writeCgroup(agentCgroup, 'memory.min', String(keptBytes));
    joinCgroup(agentCgroup, pid);
  } catch (error) {
    say(`the agent's memory is not protected: ${error instanceof Error ? error.message : error}`);
  }
}
