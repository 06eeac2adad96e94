import { randomUUID } from 'node:crypto';
import { mkdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildvisorError, isBuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import type { Logger } from '../log.ts';
import type { Build } from './build.ts';
import { Cancels } from './cancels.ts';
import { type Causes, notTaken } from './causes.ts';
import type { StepLogLimits } from './clip.ts';
import { cancelled, clientGone, stopped, tooMuchLog } from './endings.ts';
import type { Idle } from './idle.ts';
import { receiveContext } from './receive.ts';
import { Recording } from './recording.ts';
import { type BuildsGate, solve } from './solve.ts';
import { type BuildSpec, isStreamedBack } from './spec.ts';
import { BuildStore, type KeepLimits } from './store.ts';
import type { BuildState } from './verdict.ts';

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
  /** How much is remembered of builds; journals never take more than a quarter of the scratch volume. */
  keep?: Partial<KeepLimits>;
  /** Most bytes of log that the steps of a build may write. */
  logBytes?: number;
  /** How much of each step's log the journal has. */
  stepLog?: StepLogLimits;
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

const usualKeep: KeepLimits = {
  journalBytes: 1024 ** 3,
  totalBytes: 4 * 1024 ** 3,
  ageMs: 7 * 86_400_000,
  builds: 10_000,
};
const usualStepLog: StepLogLimits = { maxBytes: 16 * 1024 ** 2, maxBytesPerSecond: -1 };
const usualLogBytes = 512 * 1024 ** 2;
/** Share of the scratch volume that journals may take. */
const scratchShare = 0.25;
/** How long who asks for a record waits for its last words: longer than the gate waits for a status (agent/gate/solves/recordings.ts, `quiet`). */
const recordedLimitMs = 7_000;
/** How long a client that has gone may take to come back, in milliseconds. */
const graceMs = 5_000;

/** All builds of this VM: starts those of our API, records those of the gate, cancels both. */
export class Builds {
  /** To be given to the gate. */
  readonly recorder: Recording;
  readonly #options: BuildsOptions;
  readonly #store: BuildStore;
  #gate: BuildsGate | undefined;
  readonly #cancels: Cancels;
  #draining: string | undefined;
  #doors = 0;

  private constructor(options: BuildsOptions, totalBytes: number) {
    const { scratchDir, log, idle, causes, onChange, keep, stepLog = usualStepLog } = options;
    this.#options = options;
    const limits = { ...usualKeep, ...keep, totalBytes };
    this.#store = new BuildStore({ dir: join(scratchDir, 'journal'), log, keep: limits, stepLog });
    this.#cancels = new Cancels((ref, why) => this.#gate?.cancel(ref, why), log);
    const onEnded = (build: Build): void => this.#told(build);
    const logBytes = options.logBytes ?? usualLogBytes;
    const onFlood = (build: Build): void => this.#cancels.callOff(build, tooMuchLog(logBytes));
    this.recorder = new Recording({
      ...{ store: this.#store, idle, causes, log, onChange, onEnded, logBytes, onFlood },
    });
  }

  /** Opens the folders and takes up the journals of an agent before this one. */
  static async open(options: BuildsOptions): Promise<Builds> {
    await mkdir(options.scratchDir, { recursive: true });
    const { blocks, bsize } = await statfs(options.scratchDir);
    const most = options.keep?.totalBytes ?? usualKeep.totalBytes;
    const builds = new Builds(options, Math.min(most, Math.floor(blocks * bsize * scratchShare)));
    await rm(join(options.scratchDir, 'contexts'), { recursive: true, force: true });
    for (const dir of ['contexts', 'home'])
      await mkdir(join(options.scratchDir, dir), { recursive: true, mode: 0o700 });
    await mkdir(join(options.runDir, 'builds'), { recursive: true, mode: 0o700 });
    await builds.#store.load();
    for (const build of builds.#store.live) if (build.state === 'SUCCEEDED') void builds.#settle(build);
    return builds;
  }

  /** Gives it the gate, which is made after it. */
  attach(gate: BuildsGate): void {
    this.#gate = gate;
  }

  /** Builds that run or wait to, from both routes. */
  get running(): number {
    let count = 0;
    for (const build of this.#store.live) if (!build.isOver) count++;
    return count;
  }

  /** All builds that are remembered, the oldest first; only those in some states and only the newest, when that is wanted. */
  list({ states = [], limit = 0 }: { states?: readonly BuildState[]; limit?: number } = {}): Build[] {
    const all = this.#store.list();
    const wanted = states.length === 0 ? all : all.filter(({ state }) => states.includes(state));
    return limit > 0 ? wanted.slice(-limit) : wanted;
  }

  /**
   * Resolves when the records of builds are complete whose clients have seen their end: a client that asks next finds what it saw. A record
   * that takes too long, since its last statuses do not come, is RUNNING until then.
   * @param name of one of them; all when left out
   */
  async recorded(name?: string): Promise<void> {
    const ending = this.recorder.ending.filter(({ id, ref }) => name === undefined || name === id || name === ref);
    if (ending.length === 0) return;
    const all = Promise.all(ending.map(({ ended }) => ended));
    try {
      await withLimit({ limitMs: recordedLimitMs, what: 'records to be complete' }, async () => all);
    } catch (error) {
      if (!isBuildvisorError(error, 'TIMED_OUT')) throw error;
    }
  }

  /** @throws BuildvisorError `BUILD_UNKNOWN` */
  get(name: string): Build {
    const build = this.#store.find(name);
    if (build) return build;
    throw new BuildvisorError('BUILD_UNKNOWN', `There is no build "${name.slice(0, 100)}" in this machine`, {
      facts: { id: name.slice(0, 100) },
      hint: 'Builds are forgotten when the machine ends, and the oldest to make room.',
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
    const { dockerfile, target, platforms, tags, detach: detached } = spec;
    const about = { frontend: 'dockerfile.v0', dockerfile, target, platforms, tags, context: 'tar' };
    const build = this.#store.add({ id: spec.id, ref: '', route: 'api', startedAtMs: Date.now(), about, detached });
    this.#options.onChange();
    void this.#run(build, spec, streams);
    return build;
  }

  /**
   * Somebody follows a build of our API from now on.
   * @param owner the client that started it with this spec
   * @returns what tells that they have gone: then, when nobody else follows it and it was not detached, it is cancelled
   */
  attend(build: Build, owner?: BuildSpec): () => void {
    const { live } = build;
    if (live === undefined || build.route !== 'api') return () => undefined;
    live.followers++;
    return () => {
      live.followers--;
      const cancel = (): void => this.#cancels.callOff(build, clientGone());
      // Nobody else has the rest of the context, or gets the output.
      if (owner && (!live.received || isStreamedBack(owner))) cancel();
      else if (live.followers === 0 && !build.isOver && !build.detached)
        setTimeout(() => (live.followers === 0 ? cancel() : undefined), graceMs).unref();
    };
  }

  /**
   * Calls a build off and waits until it has ended and no process of it is left. A build that has ended already is left as it is.
   * @throws BuildvisorError `BUILD_UNKNOWN`, `TIMED_OUT`
   */
  async cancel(name: string, reason = cancelled()): Promise<Build> {
    return this.#cancels.cancel(this.get(name), reason);
  }

  /**
   * Takes no more builds and waits for those that run, at most `limitMs`; then calls them off.
   * @param reason why the machine stops, for those that are called off
   */
  async drain(limitMs: number, reason: string, signal?: AbortSignal): Promise<void> {
    this.#draining = reason;
    const all = Promise.all([...this.#store.live].map(({ closed }) => closed));
    try {
      await withLimit({ limitMs: Math.max(1, limitMs), what: 'builds to end', signal }, async () => all);
    } catch (error) {
      if (!isBuildvisorError(error, 'TIMED_OUT', 'ABORTED')) throw error;
      const left = [...this.#store.live].filter(({ isOver }) => !isOver);
      await Promise.allSettled(left.map(({ id }) => this.cancel(id, stopped(reason, limitMs))));
    }
  }

  async #run(build: Build, spec: BuildSpec, streams: BuildStreams): Promise<void> {
    const { log, idle, scratchDir, contextBytes: maxBytes } = this.#options;
    const leave = idle.enter();
    // Not by the build's id: once the build is forgotten it may come again, while its folder is still being removed.
    const context = join(scratchDir, 'contexts', randomUUID());
    log.info({ build: build.id, route: 'api', output: spec.output, detached: spec.detach }, 'build started');
    let error: BuildvisorError | undefined;
    try {
      await receiveContext(build, spec, { stream: streams.context, dir: context, maxBytes });
      await this.#solve(build, spec, context, streams.onOutput);
    } catch (thrown) {
      error = toBuildvisorError(thrown);
      // Half a context is nobody else's.
      if (error.code === 'ABORTED') error = clientGone();
      if (error.code === 'BUILD_FAILED' && !build.atGate)
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
    const { buildctl: program, runDir, scratchDir, log } = this.#options;
    const gate = this.#gate;
    if (gate === undefined) throw new BuildvisorError('NOT_READY', 'There is no way to BuildKit yet');
    const socket = join(runDir, 'builds', `${++this.#doors}.sock`);
    const home = join(scratchDir, 'home');
    await solve(build, { program, spec, context, socket, home, gate, onOutput, log });
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
    const { id, route, state, code, endedAtMs, startedAtMs } = build;
    const { steps } = build.summary(this.recorder.counts);
    if (state === 'SUCCEEDED') void this.#settle(build);
    this.#options.onChange();
    if (state === 'SUCCEEDED') this.#options.onPassed?.();
    // No step names and no messages: BuildKit puts build arguments into them.
    const facts = { build: id, route, state, code, steps, ms: endedAtMs - startedAtMs };
    // Its client has not been answered yet.
    setImmediate(() => this.#options.log.info(facts, 'build ended'));
  }
}
