import { BuildvisorError } from '../../common/errors.ts';
import { call } from './libc.ts';
import type { Platform } from './platform.ts';

/** LINUX_REBOOT_CMD_POWER_OFF and _CAD_OFF of include/uapi/linux/reboot.h; the first as the signed int C makes of it. */
const powerOffCommand = 0x4321fedc;
const keysOffCommand = 0;

/**
 * Ends the machine: a guest is switched off by reboot(2), with nothing synced or unmounted; in a `process` platform PID 1
 * exits, and the kernel kills what is left in its namespace.
 * @param exitCode what a `process` platform exits with.
 * @throws BuildvisorError `INTERNAL` in any process but PID 1: there it would switch off somebody else's machine.
 */
export function powerOff(kind: Platform['kind'], exitCode = 0): void {
  assertInit('power off');
  if (kind === 'process') process.exit(exitCode);
  call('reboot', [powerOffCommand]);
}

/** Makes Ctrl-Alt-Del, which some VMMs send to stop a guest, a SIGINT to PID 1 in place of an instant reset. */
export function takeControlAltDelete(): void {
  assertInit('take the keys');
  call('reboot', [keysOffCommand]);
}

/**
 * Sends a signal to every process but PID 1 and the kernel's own, those of nested PID namespaces too.
 * @returns false when there was none.
 * @throws BuildvisorError `INTERNAL` in any process but PID 1.
 */
export function signalEveryone(signal: NodeJS.Signals): boolean {
  assertInit('signal everyone');
  try {
    return process.kill(-1, signal);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

function assertInit(what: string): void {
  if (process.pid !== 1)
    throw new BuildvisorError('INTERNAL', `Only PID 1 may ${what}`, { facts: { pid: process.pid } });
}
