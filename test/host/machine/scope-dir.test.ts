import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseScope } from '../../../common/scope.ts';
import { findScopeDir, listScopes, openScopeDir, scopeDirOf } from '../../../host/machine/scope-dir.ts';

let env: { XDG_STATE_HOME: string };
beforeEach(() => {
  env = { XDG_STATE_HOME: mkdtempSync(join(tmpdir(), 'bv-scopes-')) };
});
afterEach(() => rmSync(env.XDG_STATE_HOME, { recursive: true, force: true }));

const scope = parseScope('acme/app/main');

test('a scope has no folder until it is opened, and then always the same', async () => {
  expect(findScopeDir(scope, env)).toBeUndefined();
  const dir = await openScopeDir(scope, env);
  expect(dir).toMatch(/\/buildvisor\/scopes\/[0-9a-f]{16}$/);
  expect(readFileSync(join(dir, 'scope'), 'utf8')).toBe(scope);
  expect(await openScopeDir(scope, env)).toBe(dir);
  expect(findScopeDir(scope, env)).toBe(dir);
});

test('scopes that look alike have folders of their own', async () => {
  const dirs = await Promise.all(['a/b', 'a-b', 'a.b', 'a_b'].map((text) => openScopeDir(parseScope(text), env)));
  expect(new Set(dirs).size).toBe(4);
  expect(
    listScopes(env)
      .map((known) => known.scope)
      .toSorted(),
  ).toEqual(['a-b', 'a.b', 'a/b', 'a_b']);
});

test('a folder with another scope inside is refused, and stays as it is', async () => {
  const dir = scopeDirOf(scope, env);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'scope'), 'acme/other');
  await expect(openScopeDir(scope, env)).rejects.toMatchObject({
    code: 'SCOPE_MISMATCH',
    facts: { expected: scope, found: 'acme/other' },
  });
  expect(readFileSync(join(dir, 'scope'), 'utf8')).toBe('acme/other');
});

test('a stray folder without a name, or with a broken one, is no scope', () => {
  mkdirSync(join(env.XDG_STATE_HOME, 'buildvisor/scopes/stray'), { recursive: true });
  mkdirSync(join(env.XDG_STATE_HOME, 'buildvisor/scopes/broken'), { recursive: true });
  writeFileSync(join(env.XDG_STATE_HOME, 'buildvisor/scopes/broken/scope'), 'Not A Scope');
  expect(listScopes(env)).toEqual([]);
});
