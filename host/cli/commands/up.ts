import { BuildvisorError, toBuildvisorError } from '../../../common/errors.ts';
import type { Scope } from '../../../common/scope.ts';
import { formatDuration } from '../../../common/units.ts';
import { ensureUp, isUp } from '../../machine/machines.ts';
import { Display } from '../build/display.ts';
import { catchInterrupts } from '../build/interrupt.ts';
import { MachineStep } from '../build/machine-step.ts';
import { differsNote, type MachineFlags, upOptions } from '../machine-options.ts';
import { openProgress, type ProgressMode, resolveMode } from '../progress/progress.ts';

/** `buildvisor up SCOPE`: boots the scope's VM and waits until it is ready. Prints where its sockets are. */
export async function bringUp(
  scope: Scope,
  flags: MachineFlags & { json?: boolean; progress: ProgressMode },
): Promise<void> {
  const display = new Display(
    await openProgress(resolveMode(flags.progress, process.stderr, process.env), process.stderr),
  );
  const interrupt = catchInterrupts(() => display.end('cancelled'));
  let step: MachineStep | undefined;
  const begin = (): MachineStep => (step ??= new MachineStep(display, scope));
  try {
    const machine = await ensureUp({
      ...upOptions(scope, flags),
      signal: interrupt.signal,
      onPhase: (phase, detail) => begin().phase(detail || phase),
    });
    step?.end();
    if (step) display.end('done');
    const note = differsNote(scope, machine.differs);
    if (note) process.stderr.write(`${note}\n`);
    if (flags.json) return void process.stdout.write(`${JSON.stringify(machine.state)}\n`);
    const { state, started } = machine;
    const boot = state.bootMs === undefined || !started ? '' : ` in ${formatDuration(state.bootMs)}`;
    process.stdout.write(
      `${scope} ${started ? `is up${boot}` : 'was up already'} (${state.description || state.driver})\n` +
        `  buildctl --addr unix://${machine.buildkitSocket}\n` +
        `  buildx create --driver remote unix://${machine.buildkitSocket}\n`,
    );
  } catch (error) {
    step?.end(toBuildvisorError(error));
    if (step) display.end(interrupt.came() ? 'cancelled' : 'failed');
    throw interrupt.came() ? stoppedWaiting(scope) : error;
  } finally {
    interrupt.release();
  }
}

/** The VM does not belong to the call that asked for it: others may wait for it too. */
function stoppedWaiting(scope: Scope): BuildvisorError {
  return new BuildvisorError('ABORTED', `No longer waiting for the VM of ${scope}`, {
    ...(isUp(scope) ? { hint: `It goes on booting; \`buildvisor down ${scope}\` stops it.` } : {}),
  });
}
