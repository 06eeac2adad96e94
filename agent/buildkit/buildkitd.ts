import { setTimeout as sleep } from 'node:timers/promises';
import { type BuildvisorError, toBuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import { raiseLimits } from '../sys/rlimit.ts';
import { Daemon, type DaemonOptions, readyLimit } from './daemon.ts';
import { Deaths } from './deaths.ts';
import { killLeftovers } from './leftovers.ts';
import { type LivenessLimits, untilSilent, usualLiveness } from './liveness.ts';
import type { WorkerInfo } from './worker.ts';

/** What a {@link Buildkitd} needs. */
export interface BuildkitdOptions extends DaemonOptions {
  /** When one that runs and does not answer is taken for dead. */
  liveness?: LivenessLimits;
  /** When its volume was last held by a freeze, performance.now(). */
  heldAt?: () => number;
}

/** How buildkitd is. `restarting` comes after it died, `failed` when it is given up. */
export type BuildkitdState = 'idle' | 'starting' | 'ready' | 'restarting' | 'stopping' | 'stopped' | 'failed';

/** Told of each change of state; the error with `restarting` and `failed`. Must not throw. */
export type BuildkitdListener = (state: BuildkitdState, error: BuildvisorError | undefined) => void;

/** Milliseconds between SIGTERM and SIGKILL. */
const graceMs = 10_000;
/** Milliseconds from SIGKILL to its end. */
const killLimitMs = 10_000;

/**
 * Runs buildkitd: starts it, knows when it answers, starts it again when it dies, stops it. It exits with 1 on a SIGTERM as
 * on a fault, so that an exit is judged by whether it was asked for.
 */
export class Buildkitd {
  readonly #options: BuildkitdOptions;
  readonly #listeners = new Set<BuildkitdListener>();
  readonly #stopping = new AbortController();
  #state: BuildkitdState = 'idle';
  #ready = Promise.withResolvers<WorkerInfo>();
  readonly #deaths = new Deaths();
  #restarts = 0;
  #death = Promise.withResolvers<BuildvisorError>();
  #lastFailure: BuildvisorError | undefined;
  #lastFailureAtMs = Number.NEGATIVE_INFINITY;
  #daemon: Daemon | undefined;
  #settled = false;
  #running: Promise<void> | undefined;

  constructor(options: BuildkitdOptions) {
    this.#options = options;
    this.#renewReady();
  }

  /** How it is now. */
  get state(): BuildkitdState {
    return this.#state;
  }

  /** How often it has been started again. */
  get restarts(): number {
    return this.#restarts;
  }

  /** What it last died of; undefined while it never did. */
  get lastFailure(): BuildvisorError | undefined {
    return this.#lastFailure;
  }

  /** Milliseconds that a start may take now: more, the more its volume holds. */
  get readyLimitMs(): number {
    return readyLimit(this.#options.root);
  }

  /**
   * Why it does not answer: what it died of, or dies of within the limit. For who saw a connection break, which comes before
   * anybody knows why, or after it is back.
   * @param sinceMs a death since then counts too (Date.now())
   */
  async whyGone(limitMs: number, sinceMs: number): Promise<BuildvisorError | undefined> {
    if (this.#lastFailureAtMs >= sinceMs) return this.#lastFailure;
    const timer = new AbortController();
    const late = sleep(limitMs, undefined, { signal: timer.signal }).catch(() => undefined);
    try {
      return await Promise.race([this.#death.promise, late]);
    } finally {
      timer.abort();
    }
  }

  /** A build has passed: its next death is the first of a new row. */
  worked(): void {
    this.#deaths.worked();
  }

  /** Its process while there is one. */
  get pid(): number | undefined {
    return this.#daemon?.pid;
  }

  /**
   * The worker, once it answers; after a death, once it answers again.
   * Rejects with `BUILDKITD_FAILED` when it is given up, `ABORTED` when it is stopped first.
   */
  get ready(): Promise<WorkerInfo> {
    return this.#ready.promise;
  }

  /** Spawns it and returns at once; {@link ready} tells the rest. Once only. */
  start(): void {
    if (this.#running || this.#stopping.signal.aborted) return;
    raiseLimits();
    this.#running = this.#run().catch((error) => this.#giveUp(toBuildvisorError(error)));
  }

  /** Calls `listener` at each change of state. @returns a function that ends that */
  onChange(listener: BuildkitdListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * SIGTERM, ten seconds, SIGKILL; then every step it left. Resolves when none is there any more. On a SIGTERM buildkitd
   * waits for its clients' calls, builds too: call those off before.
   * @param signal cuts the ten seconds short
   * @throws BuildvisorError `TIMED_OUT` when a process cannot be killed
   */
  async stop(signal?: AbortSignal): Promise<void> {
    if (this.#state === 'stopped') return;
    if (this.#state !== 'failed') this.#set('stopping');
    this.#stopping.abort();
    const daemon = this.#daemon;
    try {
      if (daemon) await end(daemon, signal);
      await this.#running;
    } finally {
      await killLeftovers(this.#options);
    }
    this.#set('stopped');
  }

  /** Life after life, until it is stopped or given up. */
  async #run(): Promise<void> {
    for (;;) {
      this.#set(this.#restarts === 0 ? 'starting' : 'restarting');
      const { error, livedMs, answered } = await this.#live();
      if (this.#stopping.signal.aborted) return this.#ready.reject(error);
      const neverRan = !answered && this.#restarts === 0;
      if (neverRan && (await this.#options.recover?.(error))) continue;
      const pauseMs = this.#deaths.add(livedMs);
      if (answered) this.#renewReady();
      // A first start that fails would fail again.
      if (neverRan || pauseMs === undefined) return this.#giveUp(this.#deaths.toError(error));
      this.#options.log.error({ facts: error.facts, restarts: this.#restarts }, error.message);
      if (!answered) this.#set('restarting', error);
      if (!(await this.#pause(pauseMs))) return this.#ready.reject(error);
      this.#restarts++;
    }
  }

  /** One life, from its start until no process of it is left. */
  async #live(): Promise<{ error: BuildvisorError; livedMs: number; answered: boolean }> {
    let readyAt: number | undefined;
    let failure: BuildvisorError | undefined;
    const daemon = new Daemon(this.#options);
    this.#daemon = daemon;
    try {
      const worker = await daemon.answers(this.#stopping.signal);
      await this.#settle();
      readyAt = performance.now();
      this.#death = Promise.withResolvers();
      this.#ready.resolve(worker);
      this.#set('ready');
      failure = await this.#untilItHangs(daemon);
    } catch (error) {
      // What it died of counts for more than what that broke.
      if (!daemon.hasExited) failure = toBuildvisorError(error);
      if (!this.#stopping.signal.aborted) daemon.kill('SIGKILL');
    }
    await daemon.exited;
    this.#daemon = undefined;
    const livedMs = readyAt === undefined ? 0 : performance.now() - readyAt;
    const error = failure ?? daemon.failure();
    // Before its builds are told: whoever hears of it must not find the machine ready.
    if (!this.#stopping.signal.aborted && readyAt !== undefined) this.#set('restarting', error);
    this.#death.resolve(error);
    if (!this.#stopping.signal.aborted) {
      this.#lastFailure = error;
      this.#lastFailureAtMs = Date.now();
      await this.#sweep();
    }
    return { error, livedMs, answered: readyAt !== undefined };
  }

  /** Kills it once it does not answer any more. @returns the reason; undefined when it ended by itself or was stopped */
  async #untilItHangs(daemon: Daemon): Promise<BuildvisorError | undefined> {
    const over = new AbortController();
    void daemon.exited.then(() => over.abort());
    const signal = AbortSignal.any([over.signal, this.#stopping.signal]);
    const { socket, liveness = usualLiveness, heldAt } = this.#options;
    const silentMs = await untilSilent(socket, liveness, { signal, ...(heldAt && { heldAt }) });
    if (silentMs === undefined) return undefined;
    daemon.kill('SIGKILL');
    return daemon.hung(silentMs);
  }

  async #settle(): Promise<void> {
    if (!this.#settled) await this.#options.settle?.(this.#stopping.signal);
    this.#settled = true;
  }

  async #sweep(): Promise<void> {
    try {
      await killLeftovers(this.#options);
    } catch (error) {
      // The next daemon is better than none; the root's lock keeps two apart.
      const { log } = this.#options;
      log.error({ error: toBuildvisorError(error).message }, 'what the dead buildkitd left could not be cleared away');
    }
  }

  async #pause(ms: number): Promise<boolean> {
    return sleep(ms, true, { signal: this.#stopping.signal }).catch(() => false);
  }

  #giveUp(error: BuildvisorError): void {
    this.#ready.reject(error);
    this.#set('failed', error);
  }

  #renewReady(): void {
    this.#ready = Promise.withResolvers<WorkerInfo>();
    // Whoever waits for it is told; nobody needs to wait.
    this.#ready.promise.catch(() => undefined);
  }

  #set(state: BuildkitdState, error?: BuildvisorError): void {
    if (this.#state === 'failed' && state !== 'stopped') return;
    if (this.#state === 'stopping' && state !== 'stopped') return;
    if (this.#state === state && !error) return;
    this.#state = state;
    for (const listener of this.#listeners) listener(state, error);
  }
}

/** SIGTERM, and SIGKILL when the grace is over or the signal fires. */
async function end(daemon: Daemon, signal: AbortSignal | undefined): Promise<void> {
  const hurry = signal ? AbortSignal.any([signal, AbortSignal.timeout(graceMs)]) : AbortSignal.timeout(graceMs);
  const kill = (): void => daemon.kill('SIGKILL');
  if (hurry.aborted) kill();
  else daemon.kill('SIGTERM');
  hurry.addEventListener('abort', kill, { once: true });
  // What sleeps in the kernel, on a disk that does not answer, no signal ends.
  const limitMs = (hurry.aborted ? 0 : graceMs) + killLimitMs;
  try {
    await withLimit({ limitMs, what: `buildkitd (pid ${daemon.pid}) to end` }, () => daemon.exited);
  } finally {
    hurry.removeEventListener('abort', kill);
  }
}
