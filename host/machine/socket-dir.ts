import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import { userId } from './paths.ts';

/** Longest path of a Unix socket in bytes, its end mark left out: `sun_path` of unix(7) has 108. */
export const maxSocketPath = 107;
/** Longest name of a socket in a VM's runtime folder, with the slash. */
const longestSocketName = '/process/buildkitd-otel.sock'.length;

/**
 * Where the sockets of the VM whose scope folder is `scopeDir` go: below `$XDG_RUNTIME_DIR`, or below a folder of the user's own in
 * the temporary folder when that is unset or too long for a socket's path. Named by a hash, so that two state folders never share one.
 */
export function runtimeDirOf(scopeDir: string, env: NodeJS.ProcessEnv = process.env): string {
  const name = createHash('sha256').update(scopeDir).digest('hex').slice(0, 16);
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
