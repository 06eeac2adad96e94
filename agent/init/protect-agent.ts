import { agentCgroup, enableControllers, joinCgroup, makeCgroup, writeCgroup } from '../sys/cgroup.ts';
import { oomScores, setOomScore } from '../sys/oom-score.ts';

/** Bytes of memory that builds cannot take from the agent: with gRPC loaded it has 76 MB, and more while it passes output on. */
const keptBytes = 128 * 1024 ** 2;

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
