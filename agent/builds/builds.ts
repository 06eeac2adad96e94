import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildvisorError, isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { formatDuration } from '../../common/units.ts';
import { withLimit } from '../../common/wait.ts';
import type { GateRecorder, QueuePlace, SolveOutcome, SolveQueued, SolveStart } from '../gate/recorder.ts';
import type { Logger } from '../log.ts';
import type { Build } from './build.ts';
import { type Causes, findCause, notTaken } from './causes.ts';
import type { Idle } from './idle.ts';
import { receiveContext } from './receive.ts';
import { type BuildsGate, solve } from './solve.ts';
import type { BuildSpec } from './spec.ts';
import { BuildStore } from './store.ts';

/** What {@link Builds} needs. */
export interface BuildsOptions {
  /** Path of `buildctl`. */
  buildctl: string;
  /** Folder for sockets; its path is short. */
  runDir: string;
  /** Folder on the scratch volume for contexts and journals. */
  scratchDir: string;
  /** Most bytes a context may hold, unpacked. */
  contextBytes: number;
  idle: Idle;
  /** Resolves when all that BuildKit has written outlives a power cut; rejects with why it does not. */
  makeDurable?: () => Promise<void>;
  /** What is known of failures beside BuildKit's word. */
  causes?: Causes;
  log: Logger;
  /** Called when a build has passed. */
  onPassed?: () => void;
  /** Called when a build has started or ended. */
  onChange: () => void;
}

/** What a build takes in and gives out besides its spec. */
export interface BuildStreams {
  /** The context, a tar. */
  context: AsyncIterable<Buffer>;
  /** Gets the output's bytes; the next come when it has resolved. */
  onOutput: (chunk: Buffer) => Promise<void>;
}

/** How long a cancelled build may take to be gone. */
const cancelLimitMs = 30_000;

/** All builds of this VM: starts those of our API, records those of the gate, cancels both. */
export class Builds implements GateRecorder {
  readonly #options: BuildsOptions;
  readonly #store: BuildStore;
  /** Builds that run, by the name the gate knows them by. */
  readonly #running = new Map<string, Build>();
  /** The kernel's count of memory kills when a solve began, by the same name. */
  readonly #killsBefore = new Map<string, number>();
  #gate: BuildsGate | undefined;
  #draining: string | undefined;
  #doors = 0;

  private constructor(options: BuildsOptions) {
    this.#options = options;
    this.#store = new BuildStore(join(options.scratchDir, 'journal'), options.log);
  }

  /** Opens the folders and takes up the journals of an agent before this one. */
  static async open(options: BuildsOptions): Promise<Builds> {
    const builds = new Builds(options);
    await rm(join(options.scratchDir, 'contexts'), { recursive: true, force: true });
    for (const dir of ['contexts', 'home'])
      await mkdir(join(options.scratchDir, dir), { recursive: true, mode: 0o700 });
    await mkdir(join(options.runDir, 'builds'), { recursive: true, mode: 0o700 });
    await builds.#store.load();
    for (const build of builds.#store.list())
      if (build.state === 'SUCCEEDED' && !build.durable) void builds.#settle(build);
    return builds;
  }

  /** Gives it the gate, which is made after it. */
  attach(gate: BuildsGate): void {
    this.#gate = gate;
  }

  /** Builds that run, from both routes. */
  get running(): number {
    return this.#store.list().filter(({ state }) => state === 'RUNNING').length;
  }

  /** All builds that are remembered, the oldest first. */
  list(): Build[] {
    return this.#store.list();
  }

  /** @throws BuildvisorError `BUILD_UNKNOWN` */
  get(name: string): Build {
    const build = this.#store.find(name);
    if (build) return build;
    throw new BuildvisorError('BUILD_UNKNOWN', `There is no build "${name.slice(0, 100)}" in this machine`, {
      facts: { id: name.slice(0, 100) },
      hint: 'Builds are forgotten when the machine ends.',
    });
  }

  /**
   * Starts a build. It goes on by itself; follow its journal.
   * @throws BuildvisorError `BUILD_EXISTS`, `DRAINING`
   */
  start(spec: BuildSpec, streams: BuildStreams): Build {
    this.#refuseWhenDraining();
    if (this.#store.find(spec.id))
      throw new BuildvisorError('BUILD_EXISTS', `There is a build "${spec.id}" in this machine already`, {
        facts: { id: spec.id },
        hint: 'Choose another id, or watch that build.',
      });
    const build = this.#store.add({ id: spec.id, ref: '', route: 'api', startedAtMs: Date.now() });
    build.start();
    this.#options.onChange();
    void this.#run(build, spec, streams);
    return build;
  }

  /** Calls a build off and waits until it has ended. A build that has ended already is left as it is. */
  async cancel(name: string, reason = cancelled()): Promise<Build> {
    const build = this.get(name);
    if (build.state !== 'RUNNING') return build;
    build.callOff(reason);
    const why = reason.code === 'BUILD_CANCELLED' ? undefined : reason.message;
    if (build.ref !== '') void this.#gate?.cancel(build.ref, why);
    await withLimit({ limitMs: cancelLimitMs, what: `build ${build.id} to end` }, () => build.ended);
    return build;
  }

  /**
   * Takes no more builds and waits for those that run, at most `limitMs`; then calls them off.
   * @param reason why the machine stops, for those that are called off
   */
  async drain(limitMs: number, reason: string, signal?: AbortSignal): Promise<void> {
    this.#draining = reason;
    const all = Promise.all(this.#store.list().map(({ closed }) => closed));
    try {
      await withLimit({ limitMs: Math.max(1, limitMs), what: 'builds to end', signal }, async () => all);
    } catch (error) {
      if (!isBuildvisorError(error, 'TIMED_OUT', 'ABORTED')) throw error;
      const left = this.#store.list().filter(({ state }) => state === 'RUNNING');
      await Promise.allSettled(left.map(({ id }) => this.cancel(id, stopped(reason, limitMs))));
    }
  }

  solveQueued(_solve: SolveQueued): void {
    // A build is recorded from its start on.
  }

  solveMoved(_ref: string, _place: QueuePlace): void {
    // Likewise.
  }

  solveStarted({ ref, build: id }: SolveStart): void {
    const own = id === undefined ? undefined : this.#store.find(id);
    if (this.#running.has(ref)) return;
    if (own === undefined && this.#store.find(ref)?.state === 'RUNNING') {
      this.#options.log.warn({ build: ref }, 'a solve is not recorded: a build of its name runs');
      return;
    }
    const build = own ?? this.#store.add({ id: ref, ref, route: 'session', startedAtMs: Date.now() });
    if (own === undefined) {
      build.start();
      this.#options.onChange();
      this.#options.log.info({ build: ref, route: 'session' }, 'build started');
    }
    build.solveStarted(ref);
    this.#running.set(ref, build);
    this.#killsBefore.set(ref, this.#options.causes?.memoryKills() ?? 0);
    if (own) void this.#writeHead(own);
  }

  status(ref: string, message: Buffer): void {
    try {
      this.#running.get(ref)?.addStatus(message);
    } catch (error) {
      this.#options.log.warn({ ref, err: error }, 'status not readable');
    }
  }

  solveEnded(ref: string, outcome: SolveOutcome): void {
    const build = this.#running.get(ref);
    const killsBefore = this.#killsBefore.get(ref) ?? 0;
    this.#running.delete(ref);
    this.#killsBefore.delete(ref);
    if (build) void this.#end(build, outcome, killsBefore);
  }

  async #end(build: Build, outcome: SolveOutcome, killsBefore: number): Promise<void> {
    let cause: BuildvisorError | undefined;
    if (outcome.code !== 0)
      cause = await findCause(outcome, this.#options.causes, { killsBefore, startedAtMs: build.startedAtMs }).catch(
        (err: unknown) => {
          this.#options.log.warn({ build: build.id, err }, 'the cause of a failure was not found');
          return undefined;
        },
      );
    build.solveEnded(outcome, cause);
    if (build.route !== 'session') return;
    build.end();
    this.#told(build);
  }

  activity(delta: 1 | -1): void {
    this.#options.idle.add(delta);
  }

  async #run(build: Build, spec: BuildSpec, streams: BuildStreams): Promise<void> {
    const { log, idle, scratchDir } = this.#options;
    const leave = idle.enter();
    const context = join(scratchDir, 'contexts', build.id);
    log.info({ build: build.id, route: 'api', output: spec.output }, 'build started');
    let error: BuildvisorError | undefined;
    try {
      await receiveContext(build, spec, {
        stream: streams.context,
        dir: context,
        maxBytes: this.#options.contextBytes,
      });
      await this.#solve(build, spec, context, streams.onOutput);
    } catch (thrown) {
      error = toBuildvisorError(thrown);
      if (error.code === 'BUILD_FAILED' && !build.solving)
        error = await notTaken(error, this.#options.causes, build.startedAtMs);
    }
    build.end(error);
    this.#told(build);
    leave();
    await rm(context, { recursive: true, force: true }).catch((err: unknown) =>
      log.warn({ build: build.id, err }, 'context not removed'),
    );
  }

  async #solve(build: Build, spec: BuildSpec, context: string, onOutput: BuildStreams['onOutput']): Promise<void> {
    const { buildctl, runDir, scratchDir, log } = this.#options;
    const gate = this.#gate;
    if (gate === undefined) throw new BuildvisorError('NOT_READY', 'There is no way to BuildKit yet');
    const socket = join(runDir, 'builds', `${++this.#doors}.sock`);
    await solve(build, {
      program: buildctl,
      spec,
      context,
      socket,
      home: join(scratchDir, 'home'),
      gate,
      onOutput,
      log,
    });
  }

  async #writeHead(build: Build): Promise<void> {
    try {
      await build.journal.writeHead(build.head);
    } catch (err) {
      this.#options.log.warn({ build: build.id, err }, 'journal head not written');
    }
  }

  #refuseWhenDraining(): void {
    if (this.#draining === undefined) return;
    const message = `The machine is stopping (${this.#draining}) and takes no more builds`;
    throw new BuildvisorError('DRAINING', message, { facts: { reason: this.#draining }, retryable: true });
  }

  /** Tells when a build that passed is durable. Nobody's build waits for it. */
  async #settle(build: Build): Promise<void> {
    const leave = this.#options.idle.enter();
    try {
      if (!this.#options.makeDurable) throw new BuildvisorError('NOT_DURABLE', 'Nothing here makes builds durable');
      await this.#options.makeDurable();
      build.settle();
    } catch (error) {
      const why = toBuildvisorError(error);
      build.settle(why);
      if (why.code !== 'NOT_DURABLE') this.#options.log.error({ build: build.id, err: why }, 'a build is not durable');
    } finally {
      leave();
    }
  }

  #told(build: Build): void {
    const { id, route, state, result, endedAtMs, startedAtMs } = build;
    const { error, steps } = result ?? {};
    if (state === 'SUCCEEDED') void this.#settle(build);
    this.#options.onChange();
    if (state === 'SUCCEEDED') this.#options.onPassed?.();
    // No step names and no messages: BuildKit puts build arguments into them.
    const facts = { build: id, route, state, code: error?.error?.code, steps, ms: endedAtMs - startedAtMs };
    this.#options.log.info(facts, 'build ended');
  }
}

function cancelled(): BuildvisorError {
  return new BuildvisorError('BUILD_CANCELLED', 'The build was cancelled');
}

function stopped(reason: string, limitMs: number): BuildvisorError {
  const message = `The machine stops (${reason}), and the build did not end within ${formatDuration(limitMs)}`;
  return new BuildvisorError('BUILD_INTERRUPTED', message, {
    facts: { why: 'stop', reason, limitMs },
    hint: 'Build again; what was done is in the cache.',
    retryable: true,
  });
}
