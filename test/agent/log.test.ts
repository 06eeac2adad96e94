import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { logLevel, openLog } from '../../agent/log.ts';

test('a line is there when the call returns, and shows no secret', () => {
  const dir = mkdtempSync(join(tmpdir(), 'bv-log-'));
  const fd = openSync(join(dir, 'log'), 'w');
  const log = openLog('info', fd);
  log.info(
    { build: 'b1', buildArgs: { TOKEN: 'hunter2' }, spec: { buildArgs: { TOKEN: 'hunter2' } } },
    'build started',
  );
  log.debug('not shown');
  const text = readFileSync(join(dir, 'log'), 'utf8');
  closeSync(fd);
  rmSync(dir, { recursive: true });
  expect(text.trim().split('\n').length).toBe(1);
  expect(JSON.parse(text)).toMatchObject({ level: 'info', build: 'b1', buildArgs: '[redacted]', msg: 'build started' });
  expect(text).not.toContain('hunter2');
});

test('an unknown level is info', () => {
  expect([logLevel('debug'), logLevel('loud'), logLevel(undefined)]).toEqual(['debug', 'info', 'info']);
});
