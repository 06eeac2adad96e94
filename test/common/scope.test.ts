import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isBuildvisorError } from '../../common/errors.ts';
import { parseScope } from '../../common/scope.ts';

const refused = (text: string): boolean => {
  try {
    parseScope(text);
    return false;
  } catch (error) {
    expect(isBuildvisorError(error, 'SCOPE_INVALID')).toBe(true);
    return true;
  }
};

test.each(['a', 'acme/app/main', '...', 'a/b/c/d/e/f/g/h', 'x'.repeat(63), '-', '_._', '0'])('takes %s', (text) => {
  expect(parseScope(text)).toBe(text);
});

test.each([
  '',
  '/',
  'a/',
  '/a',
  'a//b',
  '.',
  '..',
  'a/../b',
  'a/.',
  'A',
  'a b',
  'a\n',
  '\na',
  'a\0',
  'ä',
  'a\\b',
  'a:b',
  'x'.repeat(64),
  'a/b/c/d/e/f/g/h/i',
  'а', // a Cyrillic one
])('refuses %j', (text) => {
  expect(refused(text)).toBe(true);
});

test('takes what the rule says and nothing else, and never changes it', () => {
  const segment = /^[a-z0-9._-]{1,63}$/;
  const near = fc.array(fc.constantFrom('a', '-', '.', '/', '_', '9', 'A', ' ', '\n', '\0', 'é'), { maxLength: 12 });
  fc.assert(
    fc.property(
      fc.oneof(
        near.map((chars) => chars.join('')),
        fc.string(),
      ),
      (text) => {
        const parts = text.split('/');
        const right = parts.length <= 8 && parts.every((part) => segment.test(part) && part !== '.' && part !== '..');
        if (right) expect(parseScope(text)).toBe(text);
        else expect(refused(text)).toBe(true);
      },
    ),
    { numRuns: 2000 },
  );
});

test('an error stays small, however long the text', () => {
  try {
    parseScope('A'.repeat(1e6));
    expect.unreachable();
  } catch (error) {
    expect(JSON.stringify(error).length + String(error).length).toBeLessThan(2000);
  }
});
