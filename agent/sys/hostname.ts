import { BuildvisorError } from '../../common/errors.ts';
import { call } from './libc.ts';

/** HOST_NAME_MAX of Linux is 64; a label of RFC 1123 is at most 63 of these. */
const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;

/**
 * Names this machine (its UTS namespace, which init has to itself).
 * @throws BuildvisorError `CONFIG_INVALID` for what is not a host name, `SYSCALL_FAILED`.
 */
export function setHostname(name: string): void {
  if (name.length > 64 || !name.split('.').every((part) => label.test(part)))
    throw new BuildvisorError('CONFIG_INVALID', `"${name}" is not a host name`, {
      hint: 'Letters, digits and "-" in labels joined by ".", at most 64 characters.',
    });
  call('sethostname', [name, Buffer.byteLength(name)], { name });
}
