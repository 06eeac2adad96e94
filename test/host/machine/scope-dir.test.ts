import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
  expect(dir).toBe(join(env.XDG_STATE_HOME, 'buildvisor/scopes/acme+app+main'));
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

test('the longest scopes have folders of their own too', async () => {
  const long = Array.from({ length: 8 }, () => 'x'.repeat(63)).join('/');
  const scopes = [long, `${long.slice(0, -1)}y`].map((text) => parseScope(text));
  const dirs = await Promise.all(scopes.map((one) => openScopeDir(one, env)));
  expect(new Set(dirs).size).toBe(2);
  expect(scopes.map((one) => findScopeDir(one, env))).toEqual(dirs);
  expect(listScopes(env)).toHaveLength(2);
});

test('a copy of a folder is not listed as the scope it was copied from', async () => {
  const dir = await openScopeDir(scope, env);
  cpSync(dir, `${dir}.bak`, { recursive: true });
  expect(listScopes(env)).toEqual([{ scope, dir }]);
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
