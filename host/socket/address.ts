import { lstatSync } from 'node:fs';
import { dirname } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import type { Scope } from '../../common/scope.ts';
import { makePrivateDir } from '../machine/paths.ts';
import { scopeDirOf } from '../machine/scope-dir.ts';
import { maxSocketPath, runtimeDirOf } from '../machine/socket-dir.ts';

/**
 * Where a scope's socket is unless a path is given: beside the runtime folder of its VMs, which each of them empties. The folder above it is
 * made, for the user alone.
 */
export function openDefaultPath(scope: Scope): string {
  const path = `${runtimeDirOf(scopeDirOf(scope))}.sock`;
  makePrivateDir(dirname(path), dirname(path));
  return path;
}

/** The address of a socket as buildctl and buildx take it. */
export function addressOf(path: string): string {
  return `unix://${path}`;
}

/**
 * Refuses a path that our socket cannot have.
 * @throws BuildvisorError `USAGE`
 */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > maxSocketPath)
    throw new BuildvisorError('USAGE', `The path ${path} is too long for a socket`, {
      hint: `A socket's path has at most ${maxSocketPath} bytes; this one has ${bytes}.`,
      facts: { path, bytes },
    });
  if (!lstatSync(dirname(path), { throwIfNoEntry: false })?.isDirectory())
    throw new BuildvisorError('USAGE', `There is no folder ${dirname(path)}`, { facts: { path } });
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found || found.isSocket()) return;
  throw new BuildvisorError('USAGE', `${path} is there already and is no socket`, {
    hint: 'Give another path with --path, or remove it.',
    facts: { path },
  });
}
