import { lstatSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';

/** An XDG base folder; the specification has relative ones ignored. */
function base(value: string | undefined, fallback: string): string {
  return value !== undefined && isAbsolute(value) ? value : join(homedir(), fallback);
}

/** Folder of what must survive: `$XDG_STATE_HOME/buildvisor`. */
export function stateDir(env: NodeJS.ProcessEnv = process.env): string {
  return join(base(env.XDG_STATE_HOME, '.local/state'), 'buildvisor');
}

/** Folder of what can be made again: `$XDG_CACHE_HOME/buildvisor`. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  return join(base(env.XDG_CACHE_HOME, '.cache'), 'buildvisor');
}

/**
 * Makes a runtime folder and the one above it, for the user alone. The one above may lie in a folder anyone can write to, so one that
 * somebody else made first is refused.
 * @throws BuildvisorError `USAGE`
 */
export function makePrivateDir(parent: string, dir: string): void {
  for (const path of [parent, dir]) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const found = lstatSync(path);
    if (found.isDirectory() && found.uid === userId() && (found.mode & 0o077) === 0) continue;
    throw new BuildvisorError('USAGE', `${path} must be a folder of your own, closed to others`, {
      hint: `Remove it or run \`chmod 700 ${path}\`.`,
      facts: { path, uid: found.uid, mode: (found.mode & 0o7777).toString(8) },
    });
  }
}

/** The user's number; 0 where there is none. */
export function userId(): number {
  return process.getuid?.() ?? 0;
}
