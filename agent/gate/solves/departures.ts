import { setTimeout as sleep } from 'node:timers/promises';
import { BuildvisorError } from '../../../common/errors.ts';
import { killStep, type RunningStep } from '../../buildkit/running-steps.ts';
import type { Logger } from '../../log.ts';
import type { GateRecorder } from '../recorder.ts';
import type { Recording, Recordings } from './recordings.ts';

/**
 * Of the steps of a build that was called off, in milliseconds: how often they are looked for; how long after its end at buildkitd
 * a container may have no process; after how long a process is killed here that has no container any more, and any other while no build
 * runs that it could be of; and how long all that may take.
 */
const usual = { every: 20, empty: 2_000, orphan: 300, kill: 8_000, total: 20_000 };

/** What {@link Departures} works with. */
export interface DeparturesOptions {
  /** The steps that run in this machine. */
  look: () => RunningStep[];
  recordings: Recordings;
  recorder: GateRecorder;
  log: Logger;
  limits?: typeof usual;
}

/**
 * Sees to it that no process is left of builds that were called off. buildkitd ends a solve when its steps have ended, but for those that
 * it does not end in time, those whose runc it killed in their stead (executor/runcexecutor/executor.go, doKillProc), and those
 * of a client's own LLBBridge calls.
 */
export class Departures {
  readonly #options: DeparturesOptions;
  readonly #limits: typeof usual;
  readonly #leaving = new Map<string, Promise<void>>();
  #steps: RunningStep[] = [];
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(options: DeparturesOptions) {
    this.#options = options;
    this.#limits = options.limits ?? usual;
  }

  /** A build was called off, and buildkitd is being told. */
  begin(solve: Recording): void {
    const { recorder, log } = this.#options;
    const { ref, trace, done } = solve;
    const began = recorder.running?.(ref) ?? [];
    const gone = done.promise.then(() => this.#wait({ ref, trace, began }));
    this.#leaving.set(ref, gone);
    gone
      .catch((err: unknown) => log.error({ ref, err }, 'a step outlives its build'))
      .finally(() => {
        if (this.#leaving.get(ref) === gone) this.#leaving.delete(ref);
      });
  }

  /**
   * Resolves when buildkitd has let go of a build that was called off and none of its steps is left, but those that another build waits
   * for as well; at once for any other. @throws BuildvisorError `TIMED_OUT`
   */
  async gone(ref: string): Promise<void> {
    await this.#leaving.get(ref);
  }

  async #wait(build: Leaving): Promise<void> {
    const limits = this.#limits;
    const start = performance.now();
    for (;;) {
      const passed = performance.now() - start;
      const left = this.#left(build).filter(({ pid }) => pid !== undefined || passed < limits.empty);
      if (left.length === 0) return;
      if (passed > limits.total) throw notGone(build.ref, left, limits.total);
      const isAlone = this.#others(build).length === 0;
      for (const { pid, container } of left) {
        const isLate = container === undefined ? passed > limits.orphan : isAlone && passed > limits.kill;
        if (pid !== undefined && isLate) killStep(pid);
      }
      await sleep(limits.every);
    }
  }

  /** The steps that must go. */
  #left(build: Leaving): RunningStep[] {
    const steps = this.#look();
    const others = this.#others(build);
    if (steps.length === 0 || others.length === 0) return steps;
    const orphans = steps.filter(({ container }) => container === undefined);
    const own = steps.filter(({ container, trace }) => container !== undefined && trace && trace === build.trace);
    const containers = new Set(own.map(({ container }) => container));
    if (containers.size === 0) return orphans;
    // Which containers are those of the shared vertexes is not known: they do not have the vertex's name.
    const wanted = new Set(others.flatMap(({ ref }) => this.#options.recorder.running?.(ref) ?? []));
    const shared = build.began.filter((vertex) => wanted.has(vertex)).length;
    return containers.size > shared ? [...orphans, ...own] : orphans;
  }

  #others({ ref }: Leaving): Recording[] {
    return this.#options.recordings.all().filter((other) => other.ref !== ref);
  }

  /** Builds that are called off together look together. */
  #look(): RunningStep[] {
    const now = performance.now();
    if (now - this.#lookedAt < this.#limits.every / 2) return this.#steps;
    this.#steps = this.#options.look();
    this.#lookedAt = performance.now();
    return this.#steps;
  }
}

/** A build that was called off. */
interface Leaving {
  ref: string;
  trace: string | undefined;
  /** Vertexes that it waited for and that had begun. */
  began: string[];
}

function notGone(ref: string, left: RunningStep[], limitMs: number): BuildvisorError {
  const pids = left.flatMap(({ pid }) => pid ?? []);
  const message = `The build was called off, and after ${limitMs / 1000} s processes of its steps are still there`;
  return new BuildvisorError('TIMED_OUT', message, {
    facts: { build: ref, pids: pids.slice(0, 10).join(' '), limitMs },
    hint: 'They are being killed, or a step that other builds wait for is among them; ask again.',
  });
}
