import { accessSync, constants, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno, isBuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import { type Artefacts, artefact } from './artefacts.ts';
import { cacheDir } from './paths.ts';
import { startTied } from './tied-process.ts';
import { writeFileAtomic } from './write-file.ts';

/** What the probe's guest says when it got as far as running a program. */
const mark = 'buildvisor-kvm-works';
/** Limits in milliseconds: a guest that KVM runs writes its first line within a second and is done within three. */
const firstByteMs = 5_000;
const wholeMs = 20_000;

/**
 * Whether guests really run under KVM here: /dev/kvm may open and still boot nothing. Boots our kernel and root with a program that says one
 * line. The answer is kept until the machine boots anew or QEMU or the kernel changes. `$BUILDVISOR_ACCEL=kvm` or `tcg` answers instead.
 */
export async function probeKvm(artefacts: Partial<Artefacts>, signal: AbortSignal): Promise<boolean> {
  const chosen = process.env.BUILDVISOR_ACCEL;
  if (chosen === 'kvm' || chosen === 'tcg') return chosen === 'kvm';
  if (!canOpen('/dev/kvm')) return false;
  const key = probeKey(artefacts);
  const answerFile = join(cacheDir(), 'kvm-probe.json');
  const known = readAnswer(answerFile);
  if (known?.key === key) return known.works;
  const works = await bootUnderKvm(artefacts, signal);
  mkdirSync(cacheDir(), { recursive: true });
  await writeFileAtomic(answerFile, JSON.stringify({ key, works }));
  return works;
}

/** Boots a guest under KVM and gives whether it ran a program. */
export async function bootUnderKvm(artefacts: Partial<Artefacts>, signal: AbortSignal): Promise<boolean> {
  const qemu = artefact(artefacts, 'qemu');
  const said = Promise.withResolvers<boolean>();
  let console = '';
  const silent = setTimeout(() => said.resolve(false), firstByteMs);
  const vm = await startTied({
    file: qemu.binary,
    args: [
      ...qemu.args,
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-M', 'q35', '-m', '256M', '-smp', '1'],
      ...['-accel', 'kvm', '-cpu', 'host', '-serial', 'stdio', '-kernel', artefact(artefacts, 'kernel')],
      ...['-drive', `file=${artefact(artefacts, 'root').replaceAll(',', ',,')},if=none,id=root,format=raw,readonly=on`],
      ...['-device', 'nvme,serial=probe,drive=root', '-append'],
      `console=ttyS0 root=/dev/nvme0n1 rootfstype=ext4 ro init=/bin/busybox panic=-1 -- echo ${mark}`,
    ],
    env: { PATH: process.env.PATH },
    onStdout: (chunk) => {
      clearTimeout(silent);
      console = (console + chunk.toString('latin1')).slice(-64 * 1024);
      // The kernel prints its command line, which has the mark too; the program's line is the mark alone.
      if (new RegExp(`^${mark}\\r?$`, 'm').test(console)) said.resolve(true);
    },
    onLine: () => undefined,
  });
  void vm.exited.then(() => said.resolve(false));
  try {
    return await withLimit({ limitMs: wholeMs, what: 'a guest under KVM', signal }, () => said.promise);
  } catch (error) {
    if (isBuildvisorError(error, 'TIMED_OUT')) return false;
    throw error;
  } finally {
    clearTimeout(silent);
    vm.kill('SIGKILL');
    await vm.exited;
  }
}

/** Everything the answer hangs on. */
function probeKey(artefacts: Partial<Artefacts>): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const files = [artefact(artefacts, 'qemu').binary, artefact(artefacts, 'kernel')].map(
    (path) => `${path} ${statSync(path).mtimeMs}`,
  );
  return [boot, ...files].join('\n');
}

function readAnswer(path: string): { key: string; works: boolean } | undefined {
  try {
    const answer = JSON.parse(readFileSync(path, 'utf8')) as { key?: unknown; works?: unknown };
    const { key, works } = answer;
    return typeof key === 'string' && typeof works === 'boolean' ? { key, works } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function canOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EACCES', 'EPERM', 'ENXIO', 'ENODEV')) return false;
    throw error;
  }
}
