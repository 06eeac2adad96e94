import { readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';

/** No machine of ours can be older: a clock before it is wrong, and TLS certificates are then refused. */
const earliest = Date.UTC(2026, 0, 1);
/** A clock further ahead than this is as wrong, in years. */
const latest = Date.UTC(2100, 0, 1);
/** Bits of entropy of a kernel whose random numbers are ready (drivers/char/random.c: POOL_READY_BITS). */
const readyBits = 256;

/**
 * What is wrong with the machine's clock and its random numbers, one sentence each; empty when nothing is. Neither keeps
 * a machine from starting: builds without a network work, and a kernel that is short of entropy collects it.
 * @param entropyFile where the kernel tells of its entropy
 */
export function checkClockAndEntropy(
  now = Date.now(),
  entropyFile = '/proc/sys/kernel/random/entropy_avail',
): string[] {
  const warnings: string[] = [];
  if (now < earliest || now > latest)
    warnings.push(
      `The clock says ${new Date(now).toISOString()}; registries' certificates will be refused. Give the VM a clock.`,
    );
  const bits = readBits(entropyFile);
  if (bits !== undefined && bits < readyBits)
    warnings.push(
      `The kernel has ${bits} of ${readyBits} bits of entropy: TLS may wait. Give the VM a virtio-rng device.`,
    );
  return warnings;
}

function readBits(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'latin1'));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
