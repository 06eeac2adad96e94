import { expect, it } from 'vitest';
import { formatConsoleEnd, parseConsoleEnd } from '../../common/console-end.ts';

it('comes back as it went', () => {
  const end = { code: 'AGENT_FAILED', reason: 'line one\nline "two" {}' } as const;
  const line = formatConsoleEnd(end);
  expect(line).not.toContain('\n');
  expect(parseConsoleEnd(`${line}\r\n`)).toEqual(end);
});

it('is one short line however long the reason', () => {
  expect(formatConsoleEnd({ code: 'OK', reason: 'x'.repeat(1e6) }).length).toBeLessThan(3000);
});

it.each([
  '',
  'BUILDVISOR END',
  'BUILDVISOR ENDED {"code":"OK","reason":""}',
  'BUILDVISOR END {"code":"OK"',
  'BUILDVISOR END null',
  'BUILDVISOR END {"code":"OK"}',
  'BUILDVISOR END {"code":1,"reason":"x"}',
  'x BUILDVISOR END {"code":"OK","reason":"x"}',
])('does not take %j for the last line', (line) => {
  expect(parseConsoleEnd(line)).toBeUndefined();
});

it('takes a code of a newer guest for a failed machine', () => {
  const line = 'BUILDVISOR END {"code":"BRAND_NEW","reason":"x"}';
  expect(parseConsoleEnd(line)).toEqual({ code: 'VM_FAILED', reason: 'x' });
});
