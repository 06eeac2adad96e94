import { lstatSync, mkdirSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import { hashName } from './hash-name.ts';

/** Longest path of a Unix socket in bytes, its end mark left out: `sun_path` of unix(7) has 108. */
export const maxSocketPath = 107;
/** Longest name of a socket in a VM's runtime folder, with the slash. */
const longestSocketName = '/process/buildkitd-otel.sock'.length;

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
 * Where the sockets of the VM whose scope folder is `scopeDir` go: below `$XDG_RUNTIME_DIR`, or below a folder of the user's own in
 * the temporary folder when that is unset or too long for a socket's path. Named by a hash, so that two state folders never share one.
 */
export function runtimeDirOf(scopeDir: string, env: NodeJS.ProcessEnv = process.env): string {
  const name = hashName(scopeDir);
  const own = env.XDG_RUNTIME_DIR;
  const candidates = [
    ...(own !== undefined && isAbsolute(own) ? [join(own, 'buildvisor')] : []),
    join(tmpdir(), `buildvisor-${userId()}`),
    `/tmp/buildvisor-${userId()}`,
  ].map((dir) => join(dir, name));
  const found = candidates.find((dir) => Buffer.byteLength(dir) + longestSocketName <= maxSocketPath);
  if (found !== undefined) return found;
  throw new BuildvisorError('USAGE', 'No folder is short enough for a Unix socket', { hint: 'Set XDG_RUNTIME_DIR.' });
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

function userId(): number {
  return process.getuid?.() ?? 0;
}
