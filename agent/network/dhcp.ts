import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import { type Lease, leaseScript, parseLease } from './lease.ts';
import type { Limit } from './link.ts';

/** A DHCP client that keeps its lease alive. */
export interface DhcpClient {
  /** The first lease. */
  lease: Lease;
  /** Ends the client. The address stays. */
  close(): void;
}

/** What a {@link startDhcp} needs. */
export interface DhcpOptions extends Limit {
  /** Folder for its script and its pid. */
  runDir: string;
  /** Told to the server. */
  hostname?: string | undefined;
  /** Called with every later lease. */
  onLease: (lease: Lease) => void;
  /** Called when the client ends by itself after the first lease. */
  onEnd: () => void;
}

type Child = ChildProcessByStdio<null, Readable, Readable>;

/**
 * Asks for an address on a link that is up, with busybox' udhcpc, which goes on running to renew the lease. A client an
 * earlier agent left behind is ended first.
 * @throws BuildvisorError `NETWORK_FAILED` when no server answers or udhcpc cannot run; `ABORTED`
 */
export async function startDhcp(link: string, options: DhcpOptions): Promise<DhcpClient> {
  const script = join(options.runDir, 'udhcpc-script');
  const pidFile = join(options.runDir, 'udhcpc.pid');
  endFormer(pidFile, script);
  writeFileSync(script, leaseScript, { mode: 0o755 });
  const name = options.hostname === undefined ? [] : ['-x', `hostname:${options.hostname}`];
  // Four asks a second apart, then a pause of 2 s, for ever: the limit is what ends the wait.
  const args = ['udhcpc', '-f', '-i', link, '-s', script, '-p', pidFile, '-t', '4', '-T', '1', '-A', '2', ...name];
  const child = spawn('busybox', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    const lease = await firstLease(child, link, options);
    const onExit = (): void => options.onEnd();
    child.once('exit', onExit);
    const close = (): void => {
      child.off('exit', onExit);
      child.kill('SIGTERM');
    };
    return { lease, close };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

async function firstLease(child: Child, link: string, { limitMs, signal, onLease }: DhcpOptions): Promise<Lease> {
  const failed = (reason: string, cause?: unknown): BuildvisorError =>
    new BuildvisorError('NETWORK_FAILED', `No address by DHCP on ${link}: ${reason}`, {
      facts: { link, limitMs },
      hint: 'Check the VMM’s network, or set network.mode to "static" or "none" in the boot config.',
      cause,
    });
  const first = Promise.withResolvers<Lease>();
  let leases = 0;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const lease = parseLease(line);
    if (lease && leases++ === 0) first.resolve(lease);
    else if (lease) onLease(lease);
  });
  let lastWords = '';
  child.stderr.on('data', (chunk: Buffer) => {
    lastWords = `${lastWords}${chunk}`.slice(-500);
  });
  child.once('error', (cause) => first.reject(failed('udhcpc could not be started', cause)));
  child.once('exit', (code) => first.reject(failed(`udhcpc ended with ${code}: ${lastWords.trim()}`)));
  try {
    return await withLimit({ limitMs, what: `an address on ${link}`, signal }, () => first.promise);
  } catch (error) {
    // It may still fail after the limit, when nobody listens any more.
    first.promise.catch(() => undefined);
    throw isBuildvisorError(error, 'TIMED_OUT') ? failed(`no answer after ${limitMs / 1000} s`, error) : error;
  }
}

/** Ends the client of an earlier agent: two would renew the same lease. Judged by its command line, as pids are reused. */
function endFormer(pidFile: string, script: string): void {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'));
    if (!Number.isInteger(pid) || pid <= 1) return;
    if (readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').includes(script)) process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ESRCH')) throw error;
  }
}
