import { connect, type Socket } from 'node:net';
import { setTimeout as sleepFor } from 'node:timers/promises';
import { BuildvisorError, hasErrno, isBuildvisorError } from '../../common/errors.ts';
import { consoleListenMark } from '../../common/protocol.ts';
import { withLimit } from '../../common/wait.ts';
import type { RunningMachine } from './driver.ts';

/** Longest answer to `CONNECT`: `OK` and a port of ten digits. */
const maxAnswer = 32;

/**
 * Connects to a guest's vsock port through a VMM's Unix socket: `CONNECT PORT\n`, answered by `OK PORT\n` (Firecracker's vsock.md;
 * Cloud Hypervisor and vhost-device-vsock do the same). A VMM closes the connection when the guest does not listen.
 * @throws BuildvisorError `VM_NOT_RUNNING` (retryable), `ABORTED`
 */
export async function connectThroughSocket(path: string, port: number, signal?: AbortSignal): Promise<Socket> {
  signal?.throwIfAborted();
  const socket = connect({ path, allowHalfOpen: true });
  try {
    await new Promise<void>((resolve, reject) => {
      let answer = Buffer.alloc(0);
      const fail = (cause: unknown): void => reject(notListening(port, cause));
      const onClose = (): void => fail(new Error('closed before it answered'));
      const onAbort = (): void =>
        reject(new BuildvisorError('ABORTED', 'Connecting stopped', { cause: signal?.reason }));
      const onData = (chunk: Buffer): void => {
        answer = Buffer.concat([answer, chunk]);
        const end = answer.indexOf('\n');
        if (end === -1 && answer.length <= maxAnswer) return;
        socket.pause();
        socket.off('data', onData).off('close', onClose).off('end', onClose).off('error', fail);
        signal?.removeEventListener('abort', onAbort);
        const rest = answer.subarray(end + 1);
        if (end !== -1 && rest.length > 0) socket.unshift(rest);
        if (end !== -1 && /^OK \d+$/.test(answer.toString('latin1', 0, end))) resolve();
        else fail(new Error('answered something else than OK'));
      };
      socket.on('data', onData).on('close', onClose).on('end', onClose).on('error', fail);
      signal?.addEventListener('abort', onAbort, { once: true });
      socket.write(`CONNECT ${port}\n`);
    });
    return socket;
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    throw error;
  }
}

/** Connects to a guest's vsock port by AF_VSOCK: for hosts with the kernel's vhost-vsock. Not tried on a machine that has it. */
export async function connectThroughKernel(cid: number, port: number, signal?: AbortSignal): Promise<Socket> {
  const { connectVsock } = await import('../../agent/sys/vsock.ts');
  signal?.throwIfAborted();
  try {
    return await connectVsock(cid, port);
  } catch (error) {
    if (isBuildvisorError(error, 'SYSCALL_FAILED')) throw notListening(port, error);
    throw error;
  }
}

/** Connects to a plain Unix socket, as the `process` driver's guests have. */
export async function connectPlain(path: string, signal?: AbortSignal): Promise<Socket> {
  signal?.throwIfAborted();
  const socket = connect({ path, allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => {
      reject(hasErrno(error, 'ENOENT', 'ECONNREFUSED') ? notListening(path, error) : error);
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      resolve();
    });
  });
  return socket;
}

/** How long {@link connectWhenListening} tries, and what ends it. */
export interface RetryOptions {
  limitMs: number;
  signal?: AbortSignal | undefined;
}

/** Milliseconds for one try: a guest whose driver is not loaded yet neither accepts nor refuses. */
const attemptMs = 3_000;
const pauseMs = 100;

/**
 * Connects as soon as the guest listens.
 * @throws BuildvisorError `TIMED_OUT`, `ABORTED`, or what `connectOnce` throws that is not `VM_NOT_RUNNING`.
 */
export async function connectWhenListening<T>(
  connectOnce: (signal: AbortSignal) => Promise<T>,
  { limitMs, signal }: RetryOptions,
): Promise<T> {
  return withLimit({ limitMs, what: 'the guest to listen', signal }, async (inner) => {
    for (;;) {
      try {
        return await withLimit({ limitMs: attemptMs, what: 'one try', signal: inner }, connectOnce);
      } catch (error) {
        if (inner.aborted || !isBuildvisorError(error, 'VM_NOT_RUNNING', 'TIMED_OUT')) throw error;
      }
      await sleepFor(pauseMs, undefined, { signal: inner });
    }
  });
}

/** Milliseconds after which the guest is tried although its console never said that it listens. */
const unheardMs = 60_000;

/**
 * Keeps connections from a guest that is still booting: each would wait in its vsock device until the driver is loaded, and all
 * of them be answered then. The guest's console says when its ports are open.
 */
export class KnockWhenOpen {
  readonly #connect: RunningMachine['connect'];
  readonly #unheardAt = performance.now() + unheardMs;
  #tail = '';
  #open = false;

  constructor(connectOnce: RunningMachine['connect']) {
    this.#connect = connectOnce;
  }

  /** Takes what the console says, in any pieces. */
  read(chunk: Buffer): void {
    if (this.#open) return;
    const text = this.#tail + chunk.toString('latin1');
    this.#open = text.includes(consoleListenMark);
    this.#tail = text.slice(-consoleListenMark.length);
  }

  /** Connects, or rejects at once with `VM_NOT_RUNNING` while the guest's ports are not open. */
  readonly connect: RunningMachine['connect'] = async (port, signal) => {
    if (this.#open || performance.now() > this.#unheardAt) return this.#connect(port, signal);
    throw notListening(port, new Error('its console has not said that it listens'));
  };
}

function notListening(port: number | string, cause: unknown): BuildvisorError {
  return new BuildvisorError('VM_NOT_RUNNING', `The guest does not listen on ${port}`, {
    cause,
    retryable: true,
    facts: { port },
  });
}
