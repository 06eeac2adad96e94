import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ConsoleLog } from '../../../host/machine/console-log.ts';

let dir: string;
let log: ConsoleLog;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-console-'));
  log = new ConsoleLog(join(dir, 'console.log'), 1000);
});
afterEach(() => {
  log.close();
  rmSync(dir, { recursive: true, force: true });
});

test('the file holds every byte, the tail the last lines without their carriage returns', () => {
  log.write(Buffer.from('one\r\ntw'));
  log.write(Buffer.from('o\r\r\nthree'));
  expect(readFileSync(log.path, 'utf8')).toBe('one\r\ntwo\r\r\nthree');
  expect(log.tail()).toEqual(['one', 'two', 'three']);
  expect(log.tail(1)).toEqual(['three']);
});

test('two bounded files are all that is kept of a guest that writes for ever', () => {
  for (let line = 0; line < 1000; line++) log.write(Buffer.from(`line ${line}\n`));
  const whole = readFileSync(`${log.path}.1`, 'utf8') + readFileSync(log.path, 'utf8');
  expect(whole.length).toBeLessThanOrEqual(2000);
  expect(whole.endsWith('line 998\nline 999\n')).toBe(true);
  expect(log.tail().length).toBeLessThanOrEqual(41);
});

test('a line without end does not fill the memory', () => {
  for (let part = 0; part < 100; part++) log.write(Buffer.alloc(10_000, 'x'));
  expect(log.tail().join('').length).toBeLessThanOrEqual(1000);
});

test('the last words are found, in pieces and without a line feed too', () => {
  expect(log.end).toBeUndefined();
  log.write(Buffer.from('noise\nBUILDVISOR END {"code":"O'));
  expect(log.end).toBeUndefined();
  log.write(Buffer.from('K","reason":"idle"}'));
  expect(log.end).toEqual({ code: 'OK', reason: 'idle' });
  log.write(Buffer.from('\r\n[ 1.0] reboot: Power down\r\n'));
  expect(log.end).toEqual({ code: 'OK', reason: 'idle' });
});

test("a new log forgets the last VM's", () => {
  for (let line = 0; line < 300; line++) log.write(Buffer.from(`line ${line}\n`));
  log.close();
  log = new ConsoleLog(log.path, 1000);
  expect(readFileSync(log.path, 'utf8')).toBe('');
  expect(existsSync(`${log.path}.1`)).toBe(false);
});
