import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseScope } from '../../../common/scope.ts';
import { isRunning, markProcess, type ProcessMark, signalProcess } from '../../../host/machine/process-mark.ts';
import { isLive, readVmState, type VmState } from '../../../host/machine/vm-state.ts';
import { VmStateFile } from '../../../host/machine/vm-state-file.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-state-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function stateOf(monitor: ProcessMark): VmState {
  return {
    ...{ version: 1, scope: parseScope('a/b'), monitor, driver: 'qemu', description: '', phase: 'ready', detail: '' },
    ...{ startedAt: '2026-01-01T00:00:00Z', sockets: { api: '/a', buildkit: '/b' }, consoleLog: '/c' },
    ...{ memoryBytes: 1, cpus: 1, configHash: '' },
  };
}

function me(): ProcessMark {
  const mark = markProcess(process.pid);
  if (mark === undefined) throw new Error('no /proc');
  return mark;
}

test('a state is read back as it was written', async () => {
  const file = new VmStateFile(dir, stateOf(me()));
  await file.update({ bootMs: 12, detail: 'x' });
  expect(readVmState(dir)).toEqual({ ...stateOf(me()), bootMs: 12, detail: 'x' });
});

test('many changes at once end with the last, and leave no temporary file', async () => {
  const file = new VmStateFile(dir, stateOf(me()));
  await Promise.all(Array.from({ length: 200 }, (_, n) => file.update({ detail: `change ${n}` })));
  expect(readVmState(dir)?.detail).toBe('change 199');
  expect(readdirSync(dir)).toEqual(['vm.json']);
});

test('no file, half a file and one of another version are no state', () => {
  expect(readVmState(dir)).toBeUndefined();
  expect(readVmState(join(dir, 'missing'))).toBeUndefined();
  for (const text of ['', '{"version":1,', '{"version":2}', 'null', '[]']) {
    writeFileSync(join(dir, 'vm.json'), text);
    expect(readVmState(dir)).toBeUndefined();
  }
});

test('a VM is live while its monitor runs and it has not ended', () => {
  expect(isLive(undefined)).toBe(false);
  expect(isLive(stateOf(me()))).toBe(true);
  expect(isLive({ ...stateOf(me()), phase: 'ended' })).toBe(false);
  expect(isLive({ ...stateOf(me()), phase: 'failed' })).toBe(false);
  // The same pid, started at another time: a later process.
  expect(isLive(stateOf({ ...me(), start: me().start - 1 }))).toBe(false);
});

test('a killed process is gone at once, reaped or not, and its mark reaches nobody else', async () => {
  const child = spawn('sleep', ['60']);
  await once(child, 'spawn');
  const mark = markProcess(child.pid ?? 0);
  if (mark === undefined) throw new Error('no child');
  expect(isRunning(mark)).toBe(true);
  expect(signalProcess({ ...mark, start: mark.start + 1 }, 'SIGKILL')).toBe(false);
  expect(isRunning(mark)).toBe(true);
  expect(signalProcess(mark, 'SIGKILL')).toBe(true);
  await once(child, 'exit');
  expect(isRunning(mark)).toBe(false);
  expect(signalProcess(mark, 'SIGKILL')).toBe(false);
});
