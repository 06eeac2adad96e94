import { BuildvisorError } from '../../common/errors.ts';
import type { GateRecorder, QueuePlace, SolveOutcome, SolveQueued, SolveStart } from '../gate/recorder.ts';
import type { Logger } from '../log.ts';
import type { Build } from './build.ts';
import { type Causes, findCause } from './causes.ts';
import type { Idle } from './idle.ts';
import type { BuildStore } from './store.ts';

/** What a {@link Recording} works with. */
export interface RecordingOptions {
  store: BuildStore;
  idle: Idle;
  /** What is known of failures beside BuildKit's word. */
  causes: Causes | undefined;
  log: Logger;
  /** Called when a build has started, has begun to run or has ended. */
  onChange: () => void;
  /** Called when the steps of a build have written more than so many bytes of log. */
  logBytes: number;
  onFlood: (build: Build) => void;
  /** Called when a build that came through the BuildKit API has its result. */
  onEnded: (build: Build) => void;
}

/** How many solves there are. */
export interface SolveCounts {
  running: number;
  waiting: number;
}

/** A solve that the gate has told of. */
interface Solve {
  build: Build;
  /** Whether buildkitd works on it. */
  started: boolean;
}

/** Writes what the gate tells of solves into the builds: those of our API, and new ones for all others. */
export class Recording implements GateRecorder {
  readonly #options: RecordingOptions;
  /** By the name the gate knows them by. */
  readonly #solves = new Map<string, Solve>();
  readonly #ending = new Set<Build>();
  #running = 0;

  constructor(options: RecordingOptions) {
    this.#options = options;
  }

  /** Solves that buildkitd works on, and those that wait for their turn. */
  get counts(): SolveCounts {
    return { running: this.#running, waiting: this.#solves.size - this.#running };
  }

  get behind(): BuildvisorError | undefined {
    return this.#options.store.isBehind ? tooFast() : undefined;
  }

  running(ref: string): string[] {
    return this.#solves.get(ref)?.build.live?.steps.running() ?? [];
  }

  solveQueued(queued: SolveQueued): void {
    this.#solveOf(queued)?.build.queued(queued.ref);
    this.#options.onChange();
  }

  solveMoved(ref: string, place: QueuePlace): void {
    this.#solves.get(ref)?.build.moved(place);
  }

  solveStarted(start: SolveStart): void {
    const solve = this.#solveOf(start);
    if (solve === undefined || solve.started) return;
    solve.started = true;
    this.#running++;
    solve.build.solveStarted(start.ref);
    this.#options.onChange();
  }

  status(ref: string, message: Buffer): void {
    const build = this.#solves.get(ref)?.build;
    if (build === undefined) return;
    try {
      build.addStatus(message);
      if ((build.live?.logBytes ?? 0) > this.#options.logBytes && !build.signal.aborted) this.#options.onFlood(build);
    } catch (error) {
      this.#options.log.warn({ ref, err: error }, 'status not readable');
    }
  }

  solveEnding(ref: string): void {
    const build = this.#solves.get(ref)?.build;
    // Who follows a build of our API learns of its end from its record.
    if (build === undefined || build.route !== 'session') return;
    this.#ending.add(build);
    void build.ended.then(() => this.#ending.delete(build));
  }

  /** Builds whose clients know, or will, that they have ended, and whose record is still being completed. */
  get ending(): Build[] {
    return [...this.#ending];
  }

  solveEnded(ref: string, outcome: SolveOutcome): void {
    const solve = this.#solves.get(ref);
    if (solve === undefined) return;
    this.#solves.delete(ref);
    if (solve.started) this.#running--;
    void this.#end(solve, outcome);
  }

  activity(delta: 1 | -1): void {
    this.#options.idle.add(delta);
  }

  /** The solve, known already or entered; undefined of one that is not recorded. */
  #solveOf({ ref, build: id, about, trace }: SolveStart): Solve | undefined {
    const known = this.#solves.get(ref);
    if (known) return known;
    const { store, log } = this.#options;
    const own = id === undefined ? undefined : store.find(id);
    if (own === undefined && store.find(ref)?.isOver === false) {
      log.warn({ build: ref }, 'a solve is not recorded: a build of its name runs');
      return undefined;
    }
    const build = own ?? store.add({ id: ref, ref, route: 'session', startedAtMs: Date.now(), about });
    build.ref = ref;
    store.name(build, { ref, trace });
    // A line takes its time on a console, and the Solve goes on with the end of this turn.
    if (own === undefined) setImmediate(() => log.info({ build: ref, route: 'session' }, 'build started'));
    const solve = { build, started: false };
    this.#solves.set(ref, solve);
    return solve;
  }

  async #end({ build }: Solve, outcome: SolveOutcome): Promise<void> {
    const { causes, log, onEnded } = this.#options;
    let cause: BuildvisorError | undefined;
    if (outcome.code !== 0 && outcome.error === undefined)
      cause = await findCause(outcome, causes, build.startedAtMs).catch((err: unknown) => {
        log.warn({ build: build.id, err }, 'the cause of a failure was not found');
        return undefined;
      });
    build.solveEnded(outcome, cause ?? outcome.error);
    if (build.route !== 'session') return;
    build.end();
    onEnded(build);
  }
}

function tooFast(): BuildvisorError {
  return new BuildvisorError('QUEUE_FULL', 'Builds come faster than they can be recorded', {
    hint: 'Start this one again a little later.',
    retryable: true,
  });
}
