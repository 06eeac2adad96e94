/** Builds that want more memory than there is, in a machine whose kernel tells of it: fewer are admitted, and all end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { create } from 'tar';
import { afterAll, beforeAll, expect, onTestFailed, test } from 'vitest';
import { isBuildvisorError } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient, BuildEvent } from '../../host/client/types.ts';
import { TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from '../native/buildkitd.ts';

const gib = 1024 ** 3;
const mib = 1024 ** 2;
const most = 4;
/** What a step takes beside what it asks for: runc, two shells, the kernel's share. */
const stepOverhead = 14 * mib;
let machines: TestMachines;
let api: ApiClient;

beforeAll(async () => {
  machines = new TestMachines({ driver: 'qemu', memoryBytes: gib, cacheBytes: 4 * gib, scratchBytes: 4 * gib });
  const configText = `# buildvisor config 1\n[machine]\nshell = true\n[buildkit]\nmax-builds = ${most}\n`;
  const machine = await machines.up(machines.scope('vm/admission'), {
    ...{ configText, configSource: 'test', bootLimitMs: 600_000 },
  });
  api = connectApi(machine.apiSocket);
});
afterAll(async () => {
  api?.close();
  await machines.close();
});

/** What a build came to. */
interface Ended {
  result: NonNullable<BuildEvent['result']>;
  /** Why it was ever told to wait. */
  reasons: Set<string>;
}

/** Builds over the API. */
function build(id: string, run: string): Promise<Ended> {
  const ended = follow(id, run);
  // Told by whoever waits for it, which may be later.
  ended.catch(() => undefined);
  return ended;
}

async function follow(id: string, run: string): Promise<Ended> {
  const context = await makeContext(machines.dir, `${fromBusybox}RUN ${run}\n`);
  const tar = create({ cwd: context, portable: true }, ['Dockerfile', 'busybox']) as AsyncIterable<Buffer>;
  const reasons = new Set<string>();
  let result: BuildEvent['result'];
  for await (const event of api.build({ id }, tar)) {
    if (event.queued && event.queued.position > 0) reasons.add(event.queued.reason);
    result = event.result ?? result;
  }
  if (!result) throw new Error('no result');
  return { result, reasons };
}

/** What a command in the guest writes. */
async function sh(command: string): Promise<string> {
  const shell = api.shell({ command: ['/bin/sh', '-c', command] });
  let said = '';
  for await (const { data } of shell.output) said += data.toString();
  await shell.exit;
  return said.trim();
}

/** Takes so much memory, and has it until the machine's builds may go on. */
const hold = (bytes: number, seconds: number): string =>
  `/bin/busybox dd if=/dev/zero bs=${Math.floor(bytes / mib)}M count=1 | (/bin/busybox sleep ${seconds}; exec /bin/busybox cat > /dev/null)`;

const group = '/sys/fs/cgroup/buildkit';
const anonymous = async (): Promise<number> => Number(await sh(`sed -n 's/^anon //p' ${group}/memory.stat`));

test('fewer builds are admitted while memory is short, and all of them end', async () => {
  expect((await build('warm', 'echo warm')).result.error).toBeNull();
  const { buildsMemoryBytes: limit, slots } = await api.info();
  expect(slots).toMatchObject({ most, limit: most });
  expect(await sh(`head -1 ${group}/memory.pressure`)).toMatch(/^some avg10=/);
  const base = await anonymous();
  // Three fill 95 %: the fourth would be the end of one of them.
  const each = (0.95 * Number(limit) - base) / 3 - stepOverhead;
  const seen: { running: number; limit: number; waiting: number; used: number; pressure: string }[] = [];
  // A machine in which everybody waits for memory may take longer than a call has.
  const look = async (): Promise<(typeof seen)[number] | undefined> => {
    try {
      const { slots: now } = await api.info();
      const [anon = '', ...pressure] = (
        await sh(`sed -n 's/^anon //p' ${group}/memory.stat; cat ${group}/memory.pressure`)
      ).split('\n');
      const { running = 0, limit: most = 0, waiting = 0 } = now ?? {};
      const avg10 = pressure.map((line) => Number(/avg10=([\d.]+)/.exec(line)?.[1])).join(' ');
      const one = { running, limit: most, waiting, used: Number(anon) / Number(limit), pressure: avg10 };
      seen.push(one);
      console.log(JSON.stringify(one));
      return one;
    } catch (error) {
      if (!isBuildvisorError(error, 'TIMED_OUT', 'VM_NOT_RUNNING')) throw error;
      return undefined;
    }
  };
  onTestFailed(() => console.log(JSON.stringify({ limit: Number(limit), base, each: Math.floor(each), seen })));
  const first = [1, 2, 3].map((at) => build(`first-${at}`, hold(each, 150)));
  const wait = { limitMs: 240_000, everyMs: 500 };
  await pollUntil({ ...wait, what: 'fewer slots' }, async () =>
    ((await look())?.limit ?? most) < most ? true : undefined,
  );
  const then = [1, 2, 3].map((at) => build(`then-${at}`, hold(each, 5)));
  await pollUntil({ ...wait, what: 'the others to wait' }, async () =>
    (await look())?.waiting === 3 ? true : undefined,
  );
  let over = false;
  const all = Promise.all([...first, ...then]).finally(() => {
    over = true;
  });
  while (!over) {
    await look();
    await sleep(1_000);
  }
  const ended = await all;
  console.log(JSON.stringify({ limit: Number(limit), base, each: Math.floor(each), seen }));
  for (const { result } of ended) expect(result.error).toBeNull();
  for (const { reasons } of ended.slice(3)) expect([...reasons]).toContain('memory');
  expect(Math.max(...seen.map(({ running }) => running))).toBe(3);
  expect(Math.min(...seen.map(({ limit: now }) => now))).toBeLessThan(3);
  expect(await sh(`sed -n 's/^oom_kill //p' ${group}/memory.events`)).toBe('0');
  await pollUntil({ ...wait, what: 'all slots' }, async () =>
    (await api.info()).slots?.limit === most ? true : undefined,
  );
}, 900_000);
