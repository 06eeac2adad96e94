import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../common/errors.ts';
import { parseScope, type Scope } from '../../common/scope.ts';
import { stateDir } from './paths.ts';
import { writeFileAtomic } from './write-file.ts';

const nameFile = 'scope';

/** Longest name of a file in bytes: NAME_MAX of limits.h. */
const maxName = 255;

/** Path of a scope's folder, whether it is there or not. */
export function scopeDirOf(scope: Scope, env: NodeJS.ProcessEnv = process.env): string {
  return join(stateDir(env), 'scopes', folderName(scope));
}

/**
 * The scope with `+`, which no scope has, for `/`: `acme+app+main`. One that is too long for a file's name has `+` and its sha256, which no
 * other begins with.
 */
function folderName(scope: Scope): string {
  const name = scope.replaceAll('/', '+');
  if (name.length <= maxName) return name;
  // Loading it takes longer than all the rest of finding a VM, so only where it is needed.
  const { hash } = process.getBuiltinModule('node:crypto');
  return `+${hash('sha256', scope)}`;
}

/**
 * The folder of a scope if it has one. The name inside is compared: a folder that was copied or renamed is not taken for another scope's.
 * @throws BuildvisorError `SCOPE_MISMATCH`
 */
export function findScopeDir(scope: Scope, env: NodeJS.ProcessEnv = process.env): string | undefined {
  const dir = scopeDirOf(scope, env);
  const found = readScopeName(dir);
  if (found === undefined) return undefined;
  if (found === scope) return dir;
  throw new BuildvisorError('SCOPE_MISMATCH', `The folder of scope ${scope} belongs to another scope`, {
    facts: { path: dir, expected: scope, found },
    hint: `Move ${dir} away if it was put there by hand; else choose another scope.`,
  });
}

/** The folder of a scope, made when it is not there. */
export async function openScopeDir(scope: Scope, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const found = findScopeDir(scope, env);
  if (found !== undefined) return found;
  const dir = scopeDirOf(scope, env);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  await writeFileAtomic(join(dir, nameFile), scope);
  return dir;
}

/** Every scope that has a folder. One without a name, or with another's (a copy), is left out. */
export function listScopes(env: NodeJS.ProcessEnv = process.env): { scope: Scope; dir: string }[] {
  const parent = join(stateDir(env), 'scopes');
  let names: string[];
  try {
    names = readdirSync(parent);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
  return names.flatMap((name) => {
    const dir = join(parent, name);
    const text = readScopeName(dir);
    const scope = text === undefined ? undefined : scopeIn(text);
    return scope === undefined || folderName(scope) !== name ? [] : [{ scope, dir }];
  });
}

function scopeIn(text: string): Scope | undefined {
  try {
    return parseScope(text);
  } catch (error) {
    if (isBuildvisorError(error, 'SCOPE_INVALID')) return undefined;
    throw error;
  }
}

function readScopeName(dir: string): string | undefined {
  try {
    return readFileSync(join(dir, nameFile), 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
