/** What the monitor keeps when the disk of the host is full. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mountNow, unmountNow } from '../../agent/sys/mount.ts';
import { parseScope } from '../../common/scope.ts';
import { readVmState, type VmState } from '../../host/machine/vm-state.ts';
import { VmStateFile } from '../../host/machine/vm-state-file.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-full-'));
  mountNow({ source: 'none', target: dir, type: 'tmpfs', data: 'size=64k' });
});
afterAll(() => {
  unmountNow(dir);
  rmSync(dir, { recursive: true });
});

const first: VmState = {
  ...{ version: 1, scope: parseScope('full/host'), monitor: { pid: 1, start: 1 }, driver: 'qemu', description: 'qemu' },
  ...{
    phase: 'ready',
    detail: 'taking builds',
    startedAt: '2026-01-01T00:00:00Z',
    memoryBytes: 1,
    cpus: 1,
    configHash: '',
  },
  ...{ sockets: { api: '/a', buildkit: '/b' }, consoleLog: '/c' },
};

test('a VM whose host has no room left can still be told to have ended, and why', async () => {
  const file = new VmStateFile(dir, first);
  await file.update({});
  expect(() => writeFileSync(join(dir, 'filler'), Buffer.alloc(128 * 1024))).toThrow('ENOSPC');
  await file.update({ detail: 'something longer than what was there before' });
  await file.update({ phase: 'failed', detail: '', error: { code: 'VM_FAILED', message: 'the disk is full' } });
  expect(readVmState(dir)).toEqual({
    ...first,
    ...{ phase: 'failed', detail: '', error: { code: 'VM_FAILED', message: 'the disk is full' } },
  });
});
