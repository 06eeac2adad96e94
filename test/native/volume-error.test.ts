import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { pollUntil } from '../../common/wait.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { Info } from '../../host/client/types.ts';
import { list, type Machine } from '../../host/machine/machines.ts';
import { TestMachines } from '../fixtures/machines.ts';

let machines: TestMachines | undefined;
afterEach(() => machines?.close());

async function infoOf({ apiSocket }: Machine): Promise<Info> {
  const api = connectApi(apiSocket);
  return api.info({ limitMs: 60_000 }).finally(() => api.close());
}

test('a machine whose volume the kernel finds in disorder says so and ends; the next one checks it and goes on', async () => {
  machines = new TestMachines({ driver: 'process', cacheBytes: 1024 ** 3, scratchBytes: 1024 ** 3 });
  const scope = machines.scope('a/volume');
  const { volumes } = await infoOf(await machines.up(scope));
  const device = volumes.find(({ name }) => name === 'cache')?.device ?? '';
  writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, 'a test');
  const state = await pollUntil({ limitMs: 120_000, everyMs: 100, what: 'the machine to end' }, () => {
    const { state } = list().find((known) => known.scope === scope) ?? {};
    return state?.phase === 'failed' ? state : undefined;
  });
  expect(state.error).toMatchObject({
    code: 'VOLUME_DAMAGED',
    message: expect.stringContaining('The kernel found an error on the cache volume'),
    hint: expect.stringContaining('Start the machine again'),
  });
  const again = await machines.up(scope);
  const info = await infoOf(again);
  expect(info.volumes.find(({ name }) => name === 'cache')).toMatchObject({ wasUnclean: true });
  // What was open when the kernel stopped writing may be more than can be corrected safely: then the cache is lost, and it says so.
  const { asides = [] } = info.volumes.find(({ name }) => name === 'cache') ?? {};
  expect(info.repair?.setAside).toEqual(asides.length === 0 ? '' : expect.stringMatching(/had to be corrected/));
  expect(readFileSync(again.consoleLog, 'utf8')).toMatch(/the kernel found errors on it/);
});
