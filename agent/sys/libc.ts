/**
 * The only calls into C. Numbers are those of x86-64 and arm64 Linux (asm-generic headers), where the two agree.
 * Everything here is raw; the other files of this folder give the calls their meaning.
 */
import { constants } from 'node:os';
import koffi from 'koffi';
import { BuildvisorError, type Facts } from '../../common/errors.ts';

const lib = koffi.load('libc.so.6');

/** A C function that gives -1 and an errno when it fails. */
interface CFunction {
  (...args: unknown[]): number;
  async(...args: [...unknown[], (error: unknown, result: number) => void]): void;
}

const declare = (prototype: string): CFunction => lib.func(prototype) as CFunction;

/** The functions, by name. Buffers are C structures laid out by the caller. */
export const libc = {
  mount: declare('int mount(const char *source, const char *target, const char *type, ulong flags, const char *data)'),
  umount2: declare('int umount2(const char *target, int flags)'),
  reboot: declare('int reboot(int command)'),
  syncfs: declare('int syncfs(int fd)'),
  ioctl: declare('int ioctl(int fd, ulong request, _Inout_ void *argument)'),
  fallocate: declare('int fallocate(int fd, int mode, int64_t offset, int64_t length)'),
  flock: declare('int flock(int fd, int operation)'),
  waitpid: declare('int waitpid(int pid, _Out_ int *status, int options)'),
  prlimit: declare('int prlimit(int pid, int resource, const void *newLimit, void *oldLimit)'),
  sethostname: declare('int sethostname(const char *name, size_t length)'),
  socket: declare('int socket(int domain, int type, int protocol)'),
  bind: declare('int bind(int fd, const void *address, uint length)'),
  connect: declare('int connect(int fd, const void *address, uint length)'),
  getpeername: declare('int getpeername(int fd, _Inout_ void *address, _Inout_ uint *length)'),
  setsockopt: declare('int setsockopt(int fd, int level, int name, const void *value, uint length)'),
} as const;

/** Name of a function of {@link libc}. */
export type LibcName = keyof typeof libc;

const sync = lib.func('void sync()') as { async(done: (error: unknown) => void): void };

/** Calls a function and gives its result; blocks this thread, so only for calls that cannot wait on a device. */
export function call(name: LibcName, args: unknown[], facts: Facts = {}): number {
  const result = libc[name](...args);
  if (result === -1) throw syscallError(name, koffi.errno(), facts);
  return result;
}

/** Calls a function on a worker thread. The call itself cannot be taken back: a caller that stops waiting leaves it running. */
export function callAsync(name: LibcName, args: unknown[], facts: Facts = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    libc[name].async(...args, (error: unknown, result: number) => {
      if (error) reject(error);
      else if (result === -1) reject(syscallError(name, koffi.errno(), facts));
      else resolve(result);
    });
  });
}

/** sync(2) on a worker thread: every dirty page of every filesystem of this kernel is on its way out, and waited for. */
export function syncAll(): Promise<void> {
  return new Promise((resolve, reject) => {
    sync.async((error: unknown) => (error ? reject(error) : resolve()));
  });
}

/** Of two names for one number the first counts: EAGAIN, not EWOULDBLOCK. */
const errnoNames = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, number]) => [number, name]),
);

/** The error of a failed call: code `SYSCALL_FAILED`, facts `call` and `errno` (by name, such as `EBUSY`). */
function syscallError(name: string, errno: number, facts: Facts = {}): BuildvisorError {
  const errnoName = errnoNames.get(errno) ?? String(errno);
  const about = Object.values(facts).join(' ');
  return new BuildvisorError('SYSCALL_FAILED', `${name}${about === '' ? '' : ` ${about}`}: ${errnoName}`, {
    facts: { ...facts, call: name, errno: errnoName },
  });
}

/** Whether `error` is a failed call with one of these errnos. */
export function isErrno(error: unknown, ...names: string[]): error is BuildvisorError {
  return (
    error instanceof BuildvisorError && error.code === 'SYSCALL_FAILED' && names.includes(String(error.facts.errno))
  );
}
