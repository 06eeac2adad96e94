/**
 * The agent: brings volumes, network and buildkitd up, serves the API, takes all of it down again. init starts it, and again
 * when it dies; then it takes over what it finds.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BuildvisorError, toBuildvisorError } from '../common/errors.ts';
import { formatDuration } from '../common/units.ts';
import { withLimit } from '../common/wait.ts';
import { StateBoard } from './api/state.ts';
import { boot } from './boot.ts';
import type { Buildkitd, BuildkitdState } from './buildkit/buildkitd.ts';
import { openInitLink } from './init/link.ts';
import { keepVolumes } from './keep-volumes.ts';
import { logLevel, openLog } from './log.ts';
import { Parts } from './parts.ts';
import type { Service } from './serve.ts';
import { readPlatform } from './sys/platform.ts';
import { close } from './volumes/close.ts';
import { watchErrors } from './volumes/filesystem-errors.ts';
import { withElapsed } from './volumes/progress.ts';

/**
 * How long a machine that failed can be asked why, in milliseconds. One with a shell that had been ready stays until it was idle
 * for as long as its config says, for somebody to look into it.
 */
const failedLingerMs = 10_000;

/** How long the parts of a boot that is called off may take to notice, in milliseconds. */
const riseEndLimitMs = 30_000;

const log = openLog(logLevel(process.env.BUILDVISOR_LOG));
const state = new StateBoard();
const parts = new Parts(readPlatform(), log);
let service: Service | undefined;
let wasReady = false;
let hasWorked = false;

const stopping = new AbortController();
const stopped = once(stopping.signal, 'abort');
/** Asks for an orderly stop; the first reason counts. */
const stop = (reason: string): void => stopping.abort(reason);
/** Rejects when buildkitd is given up, or the kernel finds a volume in disorder. */
const broken = Promise.withResolvers<never>();
broken.promise.catch(() => undefined);

const link = openInitLink(stop);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal));
parts.phase('agent');

const rising = rise();
await takeDown(await untilTheEnd());

/** Boots, to the point where the machine takes builds. */
async function rise(): Promise<void> {
  const buildkitd = await boot({ parts, state, log, signal: stopping.signal });
  watchErrors(parts.volumes, broken.reject);
  buildkitd.onChange((now, error) => void onBuildkitd(buildkitd, now, error));
  service = await openService();
  parts.phase('api');
  // After an unclean stop nobody may build on what is still to be pruned.
  const waits = parts.repair !== undefined;
  if (!waits) await service.openBuilds();
  state.set('BOOTING', `waiting for buildkitd to answer, at most ${formatDuration(buildkitd.readyLimitMs)}`);
  const opening = { what: 'BuildKit opens its root', limitMs: buildkitd.readyLimitMs };
  parts.worker = await withElapsed(state.progress.bind(state), opening, buildkitd.ready);
  if (waits) await service.openBuilds();
  await keepVolumes(parts, state, log);
  parts.phase('ready');
  state.set('READY', 'taking builds');
  log.info({ phases: Object.fromEntries(parts.phases.map(({ name, atMs }) => [name, atMs])) }, 'ready');
  await link.send({ type: 'ready' });
  service.watchIdle();
  wasReady = true;
}

/** What does its work is not in a crash loop, however often it dies. */
function onPassed(): void {
  parts.buildkitd?.worked();
  if (!hasWorked) void link.send({ type: 'worked' });
  hasWorked = true;
}

/** gRPC is loaded only now: buildkitd starts meanwhile. */
async function openService(): Promise<Service> {
  const { serve } = await import('./serve.ts');
  return serve({ parts, state, log, stop, onPassed });
}

/** After the boot: buildkitd died and is started again, or given up. */
async function onBuildkitd(
  buildkitd: Buildkitd,
  now: BuildkitdState,
  error: BuildvisorError | undefined,
): Promise<void> {
  if (now === 'failed') broken.reject(error);
  else if (now === 'restarting') {
    const why = error ?? buildkitd.lastFailure;
    const limit = formatDuration(buildkitd.readyLimitMs);
    const detail = `buildkitd is being started again, at most ${limit}: ${why?.message ?? 'it ended'}`;
    state.set('BOOTING', detail, why);
  } else if (now === 'ready' && parts.worker !== undefined) {
    parts.worker = await buildkitd.ready;
    state.set('READY', 'taking builds');
  }
}

/** @returns what the machine failed with; undefined when it was asked to stop */
async function untilTheEnd(): Promise<BuildvisorError | undefined> {
  try {
    await Promise.race([stopped, broken.promise, rising.then(() => stopped)]);
    return undefined;
  } catch (error) {
    if (stopping.signal.aborted) return undefined;
    const failure = toBuildvisorError(error);
    await lingerAsFailed(failure);
    return failure;
  }
}

/** Stays a moment, so that whoever waits for the machine can be told what went wrong. */
async function lingerAsFailed(failure: BuildvisorError): Promise<void> {
  const { code, message, hint, facts } = failure;
  log.error({ code, hint, facts, err: code === 'INTERNAL' ? failure : undefined }, message);
  const stays = wasReady && parts.config?.machine.shell === true;
  state.set('FAILED', message, failure, { stays });
  try {
    service ??= await openService();
    if (stays) {
      log.info('the machine stays for its shell');
      service.watchIdle();
      await stopped;
    } else await Promise.race([stopped, sleep(failedLingerMs)]);
  } catch (error) {
    log.error({ err: error }, 'nobody can be told');
  }
}

/** Lets builds that run go on for a while, visibly. */
async function drainBuilds(reason: string): Promise<void> {
  const limitMs = parts.config?.machine.drainLimitMs ?? 0;
  const running = service?.running ?? 0;
  if (running > 0)
    state.set('DRAINING', `stopping: ${reason}; builds that run (${running}) have ${formatDuration(limitMs)} to end`);
  await service?.drain(limitMs, reason);
  state.set('DRAINING', `stopping: ${reason}; buildkitd and the volumes are being closed`);
}

/** Takes down what is up, in order, and tells init how it ended. What does not go down in order makes the end a failure. */
async function takeDown(failure: BuildvisorError | undefined): Promise<never> {
  const reason = failure?.message ?? String(stopping.signal.reason);
  log.info({ reason }, 'stopping');
  state.set('DRAINING', `stopping: ${reason}`, failure);
  stop(reason);
  let trouble = failure;
  const step = async (what: string, work: () => Promise<void> | undefined): Promise<void> => {
    try {
      await work();
    } catch (error) {
      trouble ??= toBuildvisorError(error);
      log.error({ code: toBuildvisorError(error).code, err: error }, `not in order: ${what}`);
    }
  };
  const settled = rising.catch(() => undefined);
  await step('boot', () => withLimit({ limitMs: riseEndLimitMs, what: 'the boot to end' }, () => settled));
  // Builds that write to a frozen volume could not end.
  await step('freeze', async () => void parts.freezer.thaw());
  await step('builds', () => drainBuilds(reason));
  await step('buildkitd', () => parts.buildkitd?.stop());
  await step('sweeper', () => parts.sweeper?.stop());
  parts.network?.close();
  const closing = { log, onProgress: state.progress.bind(state) };
  await Promise.all(parts.volumes.map((volume) => step(`${volume.name} volume`, () => close(volume, closing))));
  await link.send({ type: 'poweroff', reason: trouble?.message ?? reason, ...(trouble ? { code: trouble.code } : {}) });
  await service?.close();
  link.close();
  process.exit(0);
}
