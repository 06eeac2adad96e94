import type { ConsoleEnd } from '../../common/console-end.ts';
import { BuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import type { MachineExit } from './driver.ts';
import type { StopMeans } from './stop-guest.ts';
import type { StoredError, VmPhase } from './vm-state.ts';

/** Everything that is known of a VM's end. */
export interface EndFacts {
  scope: Scope;
  /** Whether the VM had been ready. */
  wasReady: boolean;
  /** How its processes ended; undefined when they were never started or do not end. */
  exit: MachineExit | undefined;
  /** The guest's own last word. */
  said: ConsoleEnd | undefined;
  /** The console's last lines. */
  tail: string[];
  /** The last lines of the VMM and its helpers. */
  vmmTail: string[];
  /** What the monitor found wrong first. */
  error: BuildvisorError | undefined;
  /** Why and by which means the monitor ended it, if it did. */
  stopped: { reason: string; means: StopMeans } | undefined;
}

/** A VM's end as the state file has it. */
export interface JudgedEnd {
  phase: Extract<VmPhase, 'ended' | 'failed'>;
  endReason: string;
  error?: StoredError;
}

/** Lines of console in an error. */
const maxShownLines = 15;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the console may hold terminal sequences
const controls = /\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]/g;

/** How a VM's life is written down: the first cause wins, then the guest's own word, then how its processes ended. */
export function judgeEnd(facts: EndFacts): JudgedEnd {
  const { error, said, stopped, exit, scope } = facts;
  if (error !== undefined) return failed(error, facts);
  if (said !== undefined && said.code !== 'OK') return failed(new BuildvisorError(said.code, said.reason), facts);
  if (said !== undefined) return { phase: 'ended', endReason: stopped?.reason ?? said.reason };
  if (stopped !== undefined) return { phase: 'ended', endReason: `${stopped.reason}, ${stopped.means}` };
  const how = exit?.signal ?? (exit?.code === undefined ? 'did not start' : `exit code ${exit.code}`);
  const when = facts.wasReady ? 'ended without a word' : 'ended before it was ready';
  return failed(new BuildvisorError('VM_FAILED', `The VM of ${scope} ${when} (${how})`), facts);
}

/** An error as it is kept; with the console's last lines unless the guest itself has named the cause. */
function failed(error: BuildvisorError, { tail, vmmTail, scope, said }: EndFacts): JudgedEnd {
  const named = said !== undefined && !['OK', 'AGENT_FAILED', 'INTERNAL'].includes(said.code);
  const shown = named
    ? ''
    : shownLines("The console's last lines", fromPanic(tail)) || shownLines('The VMM said', vmmTail);
  const stored: StoredError = {
    code: error.code,
    message: `${error.message}${shown}`,
    hint: error.hint ?? `See \`buildvisor logs ${scope}\`.`,
    facts: error.facts,
  };
  return { phase: 'failed', endReason: error.code, error: stored };
}

/** A kernel that panics says why first and then prints much more. */
function fromPanic(lines: string[]): string[] {
  const at = lines.findIndex((line) => line.includes('Kernel panic'));
  return at === -1 ? lines : lines.slice(at, at + maxShownLines);
}

function shownLines(title: string, lines: string[]): string {
  const clean = lines.map((line) => line.replace(controls, '').trimEnd()).filter((line) => line !== '');
  if (clean.length === 0) return '';
  const last = clean.slice(-maxShownLines).map((line) => `\n  ${line}`);
  return `\n${title}:${last.join('')}`;
}
