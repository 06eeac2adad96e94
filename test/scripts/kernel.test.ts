import { zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { unpackKernel } from '../../scripts/setup/kernel.ts';

/** A bzImage as the kernel's build lays it out: setup sectors, then a stub, then the packed kernel and its size. */
function makeImage(kernel: Buffer): Buffer {
  const setupSectors = 3;
  const stub = Buffer.alloc(100, 0x90);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(kernel.length);
  const payload = Buffer.concat([zstdCompressSync(kernel), size]);
  const setup = Buffer.alloc((setupSectors + 1) * 512);
  setup.writeUInt8(setupSectors, 0x1f1);
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt32LE(stub.length, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, stub, payload, Buffer.alloc(64)]);
}

test('the kernel comes out of a bzImage whole', () => {
  const kernel = Buffer.from(`\x7fELF${'kernel '.repeat(10_000)}`);
  expect(unpackKernel(makeImage(kernel)).equals(kernel)).toBe(true);
});

test('another kind of file is refused', () => {
  expect(() => unpackKernel(Buffer.alloc(4096))).toThrow('Not a bzImage');
});
