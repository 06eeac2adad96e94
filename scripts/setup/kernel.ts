/** The guest's kernel, and the modules of it that the guest needs. */
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { execa } from 'execa';
import { BuildvisorError } from '../../common/errors.ts';

/**
 * The kernel as an ELF file, taken out of a bzImage. Booted through its PVH entry it spares the guest the unpacking,
 * which emulation makes slow; and VMMs other than QEMU take nothing else.
 */
export function unpackKernel(image: Buffer): Buffer {
  // Offsets of the setup header: Documentation/arch/x86/boot.rst of the kernel.
  if (image.toString('latin1', 0x202, 0x206) !== 'HdrS') throw new BuildvisorError('INTERNAL', 'Not a bzImage');
  const setupSectors = image.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  // The last four bytes of the payload are its size when unpacked.
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c) - 4);
  if (payload.readUInt32LE(0) !== 0xfd2fb528)
    throw new BuildvisorError('INTERNAL', 'The kernel is not packed with zstd');
  return zstdDecompressSync(payload);
}

/** Drops the debugging symbols, which nothing in the guest reads. */
async function stripKernel(file: string): Promise<void> {
  await execa('objcopy', ['--strip-debug', file]);
}

/** Moves the kernel out of an unpacked package to `vmlinuz` and `vmlinux` in `into`; gives its release. */
export async function takeKernel(unpacked: string, into: string): Promise<string> {
  const boot = join(unpacked, 'boot');
  const name = (await readdir(boot)).find((entry) => entry.startsWith('vmlinuz-'));
  if (!name) throw new BuildvisorError('INTERNAL', 'The kernel package has no kernel in it');
  await copyFile(join(boot, name), join(into, 'vmlinuz'));
  const elf = join(into, 'vmlinux');
  await writeFile(elf, unpackKernel(await readFile(join(boot, name))));
  await stripKernel(elf);
  return name.slice('vmlinuz-'.length);
}

/**
 * Moves the modules of an unpacked kernel package into `tree`, decompressed (the guest loads them faster so), and drops all but
 * the wanted ones and what they depend on. A wanted module that is built into the kernel is there already.
 */
export async function takeModules(unpacked: string, tree: string, release: string, wanted: string[]): Promise<void> {
  const modules = join(tree, 'usr/lib/modules', release);
  await mkdir(dirname(modules), { recursive: true });
  await rename(join(unpacked, 'usr/lib/modules', release), modules);
  const packed = (await readdir(modules, { recursive: true })).filter((name) => name.endsWith('.ko.xz'));
  await execa('xz', ['--decompress', ...packed], { cwd: modules });
  await execa('chroot', [tree, '/usr/sbin/depmod', release]);
  const chosen = await chooseModules(modules, wanted);
  for (const name of packed.map((path) => path.slice(0, -'.xz'.length))) {
    if (!chosen.has(name)) await rm(join(modules, name));
  }
  // This drops their signatures too, whose check costs an emulated guest a third of the loading: the image is the host's, and
  // who could change a module in it could change the kernel as well.
  await execa('strip', ['--strip-debug', ...chosen], { cwd: modules });
  await execa('find', [modules, '-type', 'd', '-empty', '-delete']);
  await execa('chroot', [tree, '/usr/sbin/depmod', release]);
}

/** Paths of the wanted modules and of what they depend on. */
async function chooseModules(modules: string, wanted: string[]): Promise<Set<string>> {
  const depends = new Map<string, string[]>();
  for (const line of (await readFile(join(modules, 'modules.dep'), 'utf8')).split('\n')) {
    const [module, rest = ''] = line.split(':');
    if (module) depends.set(module, rest.split(' ').filter(Boolean));
  }
  const byName = new Map([...depends.keys()].map((path) => [moduleName(path), path]));
  const builtin = new Set((await readFile(join(modules, 'modules.builtin'), 'utf8')).split('\n').map(moduleName));
  const names = wanted.map(moduleName);
  const missing = names.filter((name) => !byName.has(name) && !builtin.has(name));
  if (missing.length > 0) throw new BuildvisorError('INTERNAL', `This kernel has no module ${missing.join(', ')}`);
  const paths = names.flatMap((name) => byName.get(name) ?? []);
  return new Set(paths.flatMap((path) => [path, ...(depends.get(path) ?? [])]));
}

/** A module's name as the kernel spells it: no folder, no suffix, `_` for `-`. */
function moduleName(path: string): string {
  return basename(path).replace(/\.ko$/, '').replaceAll('-', '_');
}
