/** Builds that want more memory than there is: fewer are admitted while it is short, none of them is killed, and all end. */
import { create } from 'tar';
import { afterAll, beforeAll, expect, onTestFailed, test } from 'vitest';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient, BuildEvent } from '../../host/client/types.ts';
import { TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from '../native/buildkitd.ts';

const gib = 1024 ** 3;
const mib = 1024 ** 2;
/** Builds that may run at once, by the config; memory is there for two of those below. */
const most = 3;
/** Part of what builds may use together that two of them come to. */
const full = 0.92;
/** What an emulated guest may take for anything, with others on the host's processors. */
const patient = { limitMs: 300_000 };
const group = '/sys/fs/cgroup/buildkit';
let machines: TestMachines;
let api: ApiClient;

beforeAll(async () => {
  machines = new TestMachines({ driver: 'qemu', memoryBytes: gib, cacheBytes: 2 * gib, scratchBytes: 2 * gib });
  const configText = `# buildvisor config 1\n[machine]\nshell = true\n[buildkit]\nmax-builds = ${most}\n`;
  const machine = await machines.up(machines.scope('vm/admission'), { configText, configSource: 'test' });
  api = connectApi(machine.apiSocket);
});
afterAll(async () => {
  api?.close();
  await machines.close();
});

/** What became of a build. */
interface Ended {
  error: NonNullable<BuildEvent['result']>['error'];
  /** All that it was told to wait for. */
  reasons: string[];
}

/** Builds over the API. */
function build(id: string, run: string): Promise<Ended> {
  const ended = follow(id, run);
  // Whoever started it asks later; a test that fails before ends the machine.
  ended.catch(() => undefined);
  return ended;
}

async function follow(id: string, run: string): Promise<Ended> {
  const context = await makeContext(machines.dir, `${fromBusybox}RUN ${run}\n`);
  const tar = create({ cwd: context, portable: true }, ['Dockerfile', 'busybox']) as AsyncIterable<Buffer>;
  const reasons: string[] = [];
  let result: BuildEvent['result'];
  for await (const { queued, result: last } of api.build({ id }, tar)) {
    if (queued && queued.position > 0) reasons.push(queued.reason);
    result = last ?? result;
  }
  if (!result) throw new Error(`${id} has no result`);
  return { error: result.error, reasons };
}

/** What a command in the guest writes. */
async function sh(command: string): Promise<string> {
  const shell = api.shell({ command: ['/bin/sh', '-c', command], signal: AbortSignal.timeout(patient.limitMs) });
  let said = '';
  for await (const { data } of shell.output) said += data.toString();
  await shell.exit;
  return said.trim();
}

/** A step of its own name that comes to hold so much memory, a sixth of it at a time, and has it for so many seconds. */
function hold(name: string, bytes: number, seconds: number): string {
  const more = `/bin/busybox dd if=/dev/zero of=/held/$i bs=1M count=${Math.round(bytes / mib / 6)}`;
  const grow = `for i in 1 2 3 4 5 6; do ${more} && /bin/busybox sleep 0.5 || exit 1; done`;
  return `--mount=type=tmpfs,target=/held : ${name}; ${grow}; /bin/busybox sleep ${seconds} || :`;
}
const forever = 5000;
/** Has one of the steps that hold memory for ever go on. */
const release = (): Promise<string> =>
  sh(`kill $(ps | sed -n 's#^ *\\([0-9]*\\) .* /bin/busybox sleep ${forever}$#\\1#p' | head -1)`);

/** What is asked of the machine while builds run and wait. */
interface Counts {
  limit: number;
  running: number;
  waiting: number;
  waitingFor: string;
}

test('while memory is short fewer builds are admitted, none is killed for it, and all pass', async () => {
  const { buildsMemoryBytes, capabilities, slots } = await api.info(patient);
  expect(capabilities).toContainEqual({ name: 'memory-pressure', available: true, reason: '' });
  expect(slots).toMatchObject({ most, limit: most });
  // What buildkitd is kept (agent/buildkit/memory.ts) no step can have.
  const kept = Number(await sh(`cat ${group}/buildkitd/memory.min`));
  const each = (full * Number(buildsMemoryBytes) - kept) / 2;
  const seen: string[] = [];
  onTestFailed(() => console.log([`${buildsMemoryBytes} bytes, ${each} for each build`, ...seen].join('\n')));
  const started = Date.now();
  /** Waits until builds run and wait like that. */
  const until = (what: string, is: (now: Counts) => boolean) =>
    pollUntil({ ...patient, everyMs: 250, what }, async () => {
      const { slots: counts, state } = await api.info(patient);
      if (!counts || !state) throw new Error('nothing is told of builds');
      const { limit, running, waiting } = counts;
      const now = { limit, running, waiting, waitingFor: state.waitingFor };
      const text = JSON.stringify(now);
      if (!seen.at(-1)?.endsWith(text)) seen.push(`${((Date.now() - started) / 1000).toFixed(1)} s ${text}`);
      expect(running).toBeLessThan(most);
      return is(now) || undefined;
    });

  const first = [1, 2].map((n) => build(`first-${n}`, hold(`first-${n}`, each, forever)));
  await until('memory to be short', ({ limit }) => limit < 2);
  // By the config one more might run: it, or another one for it, would be killed.
  const then = [1, 2].map((n) => build(`then-${n}`, hold(`then-${n}`, each, 1)));
  const why = 'memory is short, so that 1 of 3 builds may run at once';
  await until('two to wait for memory', ({ waiting, waitingFor }) => waiting === 2 && waitingFor === why);
  const since = Date.now();
  await until('more time to pass than from one more to the next', () => Date.now() - since > 12_000);
  await release();
  await until('one to end', ({ running }) => running < 2);
  await release();
  const ended = await Promise.all([...first, ...then]);
  expect(ended.map(({ error }) => error)).toEqual([null, null, null, null]);
  for (const { reasons } of ended.slice(2)) expect(reasons).toContain('memory');
  expect(await sh(`sed -n 's/^oom_kill //p' ${group}/memory.events`)).toBe('0');
  await until('as many as before to be let in', ({ limit }) => limit === most);
});
