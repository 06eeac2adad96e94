import type { Socket } from 'node:net';
import { call, isErrno } from './libc.ts';

/** include/uapi/asm-generic/socket.h: SO_SNDBUF past the limit that net.core.wmem_max is, for who has CAP_NET_ADMIN. */
const solSocket = 1;
const soSndBufForce = 32;

/**
 * Lets the kernel take so many bytes of a connected socket before its reader does. Who writes much to a Unix socket is else woken for each
 * 200 KB, and so is who reads. Without CAP_NET_ADMIN it stays as it is.
 * @throws BuildvisorError `SYSCALL_FAILED`
 */
export function setSendBuffer(socket: Socket, bytes: number): void {
  const fd = (socket as unknown as { _handle: { fd: number } | null })._handle?.fd;
  if (fd === undefined) return;
  // The kernel doubles it, for its own bookkeeping (socket(7)).
  const value = Buffer.alloc(4);
  value.writeInt32LE(bytes / 2);
  try {
    call('setsockopt', [fd, solSocket, soSndBufForce, value, value.length]);
  } catch (error) {
    if (!isErrno(error, 'EPERM')) throw error;
  }
}
