import { BuildvisorError, isBuildvisorError, toBuildvisorError } from '../../../common/errors.ts';
import type { Scope } from '../../../common/scope.ts';
import { connectApi } from '../../client/connect.ts';
import { followBuild } from '../../client/follow.ts';
import { isUp } from '../../machine/machines.ts';
import { Display } from '../build/display.ts';
import { digestOf, EventView } from '../build/event-view.ts';
import { catchInterrupts } from '../build/interrupt.ts';
import { openProgress, type ProgressMode, resolveMode } from '../progress/progress.ts';
import { requireMachine } from './info.ts';

/** Flags of `buildvisor watch`. */
export interface WatchFlags {
  after?: number;
  progress: ProgressMode;
  quiet?: boolean;
}

/**
 * `buildvisor watch SCOPE BUILD`: shows a build as `build` does, from its beginning or after a number, and ends as it does. A
 * stream that is lost is resumed. An interrupt ends the watching only.
 */
export async function watchBuild(scope: Scope, id: string, flags: WatchFlags): Promise<void> {
  const machine = requireMachine(scope);
  const mode = flags.quiet ? 'quiet' : resolveMode(flags.progress, process.stderr, process.env);
  const display = new Display(await openProgress(mode, process.stderr));
  const view = new EventView(display);
  const { signal, release } = catchInterrupts(() => display.end('cancelled'));
  const client = connectApi(machine.apiSocket);
  const mayComeBack = (): boolean => isUp(scope);
  let digest: string | undefined;
  try {
    for await (const event of followBuild(client, id, { after: flags.after, signal, mayComeBack })) {
      view.show(event);
      if (!event.result) continue;
      digest = digestOf(event.result);
      break;
    }
    // After the number of the result nothing but `durable` comes.
    if (digest === undefined) {
      const { result } = await client.get(id, { signal });
      digest = result ? digestOf(result) : '';
    }
    display.end('done');
    if (digest !== '' && mode === 'quiet') process.stdout.write(`${digest}\n`);
    else if (digest !== '' && mode !== 'rawjson') process.stderr.write(`digest: ${digest}\n`);
  } catch (error) {
    const cause = signal.aborted ? stoppedWatching(id) : toBuildvisorError(error);
    display.end(isBuildvisorError(cause, 'BUILD_CANCELLED', 'ABORTED') ? 'cancelled' : 'failed');
    if (typeof cause.facts.excerpt === 'string') process.stderr.write(`${cause.facts.excerpt}\n`);
    throw cause;
  } finally {
    release();
    client.close();
  }
}

function stoppedWatching(id: string): BuildvisorError {
  return new BuildvisorError('ABORTED', `Stopped watching build ${id}`, {
    hint: 'The build was not cancelled; `buildvisor cancel` does that.',
  });
}
