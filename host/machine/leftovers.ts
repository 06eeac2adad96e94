import { readdirSync, readFileSync } from 'node:fs';
import { BuildvisorError, hasErrno } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { hasEnvironment, isRunning, markProcess, type ProcessMark, signalProcess } from './process-mark.ts';

/** Environment variable that a monitor gives to what it starts; its value is the scope's folder. */
export const ownerEnv = 'BUILDVISOR_VM';

/** Longest time for killed processes to go, in milliseconds. One in uninterruptible sleep can take a while. */
const endLimitMs = 10_000;
/** Longest wait for a process in the middle of an exec to show its environment, in milliseconds; it takes far less than one. */
const execLimitMs = 1_000;

/**
 * The processes that a monitor of this scope folder started, by what the kernel keeps of their environment. A monitor's children die with
 * it; this finds the one that was just being started.
 */
export function findLeftovers(scopeDir: string): ProcessMark[] {
  const wanted = `${ownerEnv}=${scopeDir}`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const mark = markProcess(Number(name));
      const ours = mark !== undefined && mark.pid !== process.pid && environmentOf(mark).includes(wanted);
      return ours ? [mark] : [];
    });
}

/**
 * Kills what a dead monitor of this scope folder left behind and waits until it is gone. Only for who holds the scope's lock.
 * @throws BuildvisorError `VM_FAILED` naming what cannot be ended
 */
export async function endLeftovers(scopeDir: string): Promise<ProcessMark[]> {
  const found = findLeftovers(scopeDir);
  for (const mark of found) signalProcess(mark, 'SIGKILL');
  try {
    await pollUntil({ limitMs: endLimitMs, everyMs: 20, what: 'processes of the last VM to end' }, () =>
      found.some(isRunning) ? undefined : true,
    );
  } catch (cause) {
    const pids = found.filter(isRunning).map(({ pid }) => pid);
    throw new BuildvisorError('VM_FAILED', `Processes of the scope's last VM do not end: ${pids.join(', ')}`, {
      cause,
      facts: { pids: pids.join(' ') },
      hint: 'See with `ps` what they wait for; end them and try again.',
    });
  }
  return found;
}

/** A process's environment as NAME=value words; empty for one that is gone or another user's. Waits for one that is in an exec. */
function environmentOf(mark: ProcessMark): string[] {
  const deadline = performance.now() + execLimitMs;
  for (;;) {
    const text = readEnvironment(mark.pid);
    if (text === undefined) return [];
    if (text !== '' || !hasEnvironment(mark) || performance.now() > deadline) return text.split('\0');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
}

function readEnvironment(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}
