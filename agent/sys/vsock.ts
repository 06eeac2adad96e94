import { closeSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { call, callAsync, isErrno } from './libc.ts';

/** include/uapi/linux/vm_sockets.h and socket.h. */
const afVsock = 40;
const sockStream = 1;
const sockCloexec = 0o2000000;
const addressSize = 16;

/** The CID of the host as a guest sees it. */
const hostCid = 2;
/** Any CID: a listener's own. */
const anyCid = 0xffffffff;

/** Node's native TCP handle: it works for any stream socket, unlike `net.Socket({ fd })`, which knows its families. */
interface TcpHandle {
  readonly fd: number;
  open(fd: number): number;
}
interface TcpWrap {
  TCP: new (type: number) => TcpHandle;
  constants: { SOCKET: number; SERVER: number };
}

const { TCP, constants } = (process as unknown as { binding(name: 'tcp_wrap'): TcpWrap }).binding('tcp_wrap');

/** Options of {@link listenVsock}. */
export interface ListenOptions {
  /** Which peers may connect, by CID. Default: the host only. The others are cut off before a byte is read. */
  allowPeer?: (cid: number) => boolean;
  /** Called for each peer that was cut off. */
  onRefused?: (cid: number) => void;
}

/**
 * Listens on a vsock port. Sockets may be half open; give them to `sliceWrites`.
 * @throws BuildvisorError `SYSCALL_FAILED` (`EAFNOSUPPORT`: no vsock in this kernel; `EADDRINUSE`), or listen's own error.
 */
export async function listenVsock(
  port: number,
  onConnection: (socket: Socket, peerCid: number) => void,
  { allowPeer = (cid) => cid === hostCid, onRefused }: ListenOptions = {},
): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const cid = peerCid(socket);
    if (cid !== undefined && allowPeer(cid)) return onConnection(socket, cid);
    socket.destroy();
    if (cid !== undefined) onRefused?.(cid);
  });
  const handle = openHandle(constants.SERVER, (fd) =>
    call('bind', [fd, encodeAddress(anyCid, port), addressSize], { port }),
  );
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(handle, () => {
    server.off('error', listening.reject);
    listening.resolve();
  });
  await listening.promise;
  return server;
}

/**
 * Connects to a vsock port: for hosts with vhost-vsock. The kernel itself gives up after 2 s (af_vsock.c,
 * VSOCK_DEFAULT_CONNECT_TIMEOUT).
 * @throws BuildvisorError `SYSCALL_FAILED` (`ECONNRESET`: nobody listens there yet; `ENODEV`: no such machine).
 */
export async function connectVsock(cid: number, port: number): Promise<Socket> {
  const fd = call('socket', [afVsock, sockStream | sockCloexec, 0]);
  try {
    await callAsync('connect', [fd, encodeAddress(cid, port), addressSize], { cid, port });
    const handle = adopt(constants.SOCKET, fd);
    return new Socket({ handle, allowHalfOpen: true, readable: true, writable: true } as object);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openHandle(type: number, prepare: (fd: number) => void): TcpHandle {
  const fd = call('socket', [afVsock, sockStream | sockCloexec, 0]);
  try {
    prepare(fd);
    return adopt(type, fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A native handle that owns the descriptor from now on. */
function adopt(type: number, fd: number): TcpHandle {
  const handle = new TCP(type);
  const status = handle.open(fd);
  if (status !== 0) throw new Error(`libuv does not take descriptor ${fd}: ${status}`);
  return handle;
}

/** The other end's CID; undefined when it has gone again. */
function peerCid(socket: Socket): number | undefined {
  const fd = (socket as unknown as { _handle: TcpHandle | null })._handle?.fd;
  if (fd === undefined) return undefined;
  const address = Buffer.alloc(addressSize);
  try {
    call('getpeername', [fd, address, [addressSize]]);
  } catch (error) {
    if (isErrno(error, 'ENOTCONN', 'EBADF')) return undefined;
    throw error;
  }
  return address.readUInt16LE(0) === afVsock ? address.readUInt32LE(8) : undefined;
}

/** struct sockaddr_vm: family u16, reserved u16, port u32, cid u32, flags and padding. */
function encodeAddress(cid: number, port: number): Buffer {
  const address = Buffer.alloc(addressSize);
  address.writeUInt16LE(afVsock, 0);
  address.writeUInt32LE(port, 4);
  address.writeUInt32LE(cid, 8);
  return address;
}
