import type { FileHandle } from 'node:fs/promises';
import { callAsync } from './libc.ts';

/** Gives a file real space up to `bytes`, without writing it (fallocate(2)). @throws BuildvisorError `SYSCALL_FAILED` (`ENOSPC`) */
export async function allocate(file: FileHandle, bytes: number): Promise<void> {
  await callAsync('fallocate', [file.fd, 0, 0, bytes], { bytes });
}
