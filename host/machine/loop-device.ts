import { closeSync, openSync } from 'node:fs';
import { execa } from 'execa';
import { BuildvisorError } from '../../common/errors.ts';

/** A file as a block device. */
export interface LoopDevice {
  /** Such as `/dev/loop3`. */
  path: string;
  /** Gives the device up; the kernel takes it away when nothing has it mounted or open any more. */
  release(): void;
}

const limitMs = 20_000;

/**
 * Makes a loop device of a file with losetup(8). It is told at once to go when its last user goes, and this process is one until
 * {@link LoopDevice.release}: so none stays behind, however this process ends.
 * @throws BuildvisorError `COMMAND_FAILED`
 */
export async function openLoopDevice(file: string): Promise<LoopDevice> {
  const path = (await losetup(['--find', '--show', '--', file])).trim();
  const fd = openSync(path, 'r');
  try {
    // With the device open, detaching only sets LO_FLAGS_AUTOCLEAR (drivers/block/loop.c, loop_clr_fd).
    await losetup(['--detach', path]);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  let held = true;
  return {
    path,
    release() {
      if (held) closeSync(fd);
      held = false;
    },
  };
}

async function losetup(args: string[]): Promise<string> {
  try {
    const { stdout } = await execa('losetup', args, { timeout: limitMs, stdin: 'ignore' });
    return stdout;
  } catch (cause) {
    throw new BuildvisorError('COMMAND_FAILED', `losetup ${args.join(' ')} failed`, {
      cause,
      hint: 'The process driver needs root and free loop devices; the qemu driver needs neither.',
    });
  }
}
