import fc from 'fast-check';
import { expect, test } from 'vitest';
import { maxConfigBytes, parseConfig, renderConfig } from '../../../agent/config/index.ts';
import { isBuildvisorError } from '../../../common/errors.ts';
import { document, write } from './arbitrary.ts';

const header = '# buildvisor config 1';

function refusal(input: Parameters<typeof renderConfig>[0]) {
  try {
    renderConfig(input);
  } catch (error) {
    if (isBuildvisorError(error)) return error;
    throw error;
  }
  throw new Error('was accepted');
}

test('a scope alone is a config', () => {
  expect(renderConfig({ scope: 'a/b' })).toBe(`${header}\nscope = "a/b"\n`);
});

test.each([
  ['[machine]\nshell = true', `${header}\nscope = "a/b"\n[machine]\nshell = true\n`],
  [`${header}\n\n# mine\n[machine]\nshell = true\n`, `${header}\nscope = "a/b"\n\n# mine\n[machine]\nshell = true\n`],
  [`${header}\nscope = "a/b"\n`, `${header}\nscope = "a/b"\n`],
  [`\uFEFF${header}\r\nscope = "a/b"\r\n`, `${header}\nscope = "a/b"\r\n`],
  ['scope = "a/b"', `${header}\nscope = "a/b"\n`],
  [header, `${header}\nscope = "a/b"\n`],
])('completes %j', (text, rendered) => {
  expect(renderConfig({ scope: 'a/b', text })).toBe(rendered);
});

test('another scope is refused', () => {
  const error = refusal({ scope: 'a/b', text: 'scope = "a/c"', source: 'x.toml' });
  expect(error.code).toBe('SCOPE_MISMATCH');
  expect(error.facts).toEqual({ source: 'x.toml', scope: 'a/b', configScope: 'a/c' });
  expect(refusal({ scope: 'A' }).code).toBe('SCOPE_INVALID');
});

test.each([
  ['[machine]\nshell = 5\n', 2],
  [`${header}\n[machine]\nshell = 5\n`, 3],
  [`${header}\nscope = "a/b"\n[machine]\nshell = 5\n`, 4],
  ['scope = "a/b"\n[machine]\nshell = 5\n', 3],
  ['[machine]\nshell = \n', 2],
])("errors name lines of the user's text: %j", (text, line) => {
  const error = refusal({ scope: 'a/b', text, source: 'x.toml' });
  expect(error.code).toBe('CONFIG_INVALID');
  expect(error.facts).toMatchObject({ source: 'x.toml', line });
});

test('what cannot be on the drive is refused', () => {
  expect(refusal({ scope: 'a', text: '# \0' }).message).toContain('NUL');
  expect(refusal({ scope: 'a', text: `# ${'x'.repeat(maxConfigBytes)}` }).message).toContain('is larger than');
  expect(refusal({ scope: 'a', text: '# buildvisor config 2\n' }).message).toContain('is of version "2"');
  expect(refusal({ scope: 'a', text: '[scope]\n' }).message).toContain('scope: a table is not right');
});

test('what a host renders, the agent reads to the same config', () => {
  fc.assert(
    fc.property(document, fc.boolean(), fc.boolean(), (given, headed, scoped) => {
      const whole = write(given);
      const { scope, ...rest } = given;
      const text = (scoped ? whole : write(rest)).slice(headed ? 0 : header.length + 1);
      const expected = attempt(() => parseConfig(whole, 'boot.toml'));
      const got = attempt(() => parseConfig(renderConfig({ scope, text }), 'boot.toml'));
      expect(got).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});

function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (isBuildvisorError(error, 'CONFIG_INVALID', 'SCOPE_INVALID')) return undefined;
    throw error;
  }
}
