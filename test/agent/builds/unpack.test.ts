import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ContextLimits, type Unpacked, unpackContext } from '../../../agent/builds/unpack.ts';
import { BuildvisorError } from '../../../common/errors.ts';
import { type Entry, encode, endMark, header, inChunks, paxRecord, seal, tarOf } from './make-tar.ts';

const roomy: ContextLimits = { bytes: 10_000_000 };
let dir: string;
let root: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-unpack-'));
  root = join(dir, 'root');
  mkdirSync(root);
  writeFileSync(join(dir, 'outside'), 'untouched');
});
afterEach(() => {
  // Nothing was written beside the root, whatever the archive held.
  expect(readdirSync(dir).sort()).toEqual(['outside', 'root']);
  expect(readFileSync(join(dir, 'outside'), 'utf8')).toBe('untouched');
  rmSync(dir, { recursive: true });
});

const unpack = (bytes: Buffer, limits = roomy): Promise<Unpacked> => unpackContext(inChunks(bytes), root, limits);
const refused = (...entries: Entry[]): Promise<void> =>
  expect(unpack(tarOf(...entries))).rejects.toMatchObject({ code: 'CONTEXT_INVALID' });

describe('what it unpacks', () => {
  test('files, folders and links, with modes and times', async () => {
    const unpacked = await unpack(
      tarOf(
        { name: './', type: '5', mode: 0o755 },
        { name: './sub/', type: '5', mode: 0o750, mtime: 1_600_000_000 },
        { name: './sub/file', data: 'hello', mode: 0o4755, mtime: 1_500_000_000 },
        { name: 'implied/by/name', data: 'deep' },
        { name: 'link', type: '2', link: '../../anywhere' },
        { name: 'hard', type: '1', link: './sub/file' },
      ),
    );
    expect(unpacked).toMatchObject({ entries: 6, bytes: 9 });
    const file = statSync(join(root, 'sub/file'));
    expect([file.mode & 0o7777, file.mtimeMs, file.nlink]).toEqual([0o4755, 1_500_000_000_000, 2]);
    const sub = statSync(join(root, 'sub'));
    expect([sub.mode & 0o777, sub.mtimeMs]).toEqual([0o750, 1_600_000_000_000]);
    expect(readFileSync(join(root, 'implied/by/name'), 'utf8')).toBe('deep');
    expect(readlinkSync(join(root, 'link'))).toBe('../../anywhere');
  });

  test.each([
    ['plain', (tar: Buffer) => tar],
    ['gzip', (tar: Buffer) => gzipSync(tar)],
    ['zstd', (tar: Buffer) => zstdCompressSync(tar)],
  ])('%s, in whatever pieces it comes', async (_name, pack) => {
    const packed = pack(tarOf({ name: 'a', data: 'x'.repeat(5000) }, { name: 'b', data: 'y' }));
    for (const size of [1, 511, 512, 100_000]) {
      rmSync(root, { recursive: true });
      mkdirSync(root);
      expect(await unpackContext(inChunks(packed, size), root, roomy)).toMatchObject({
        received: packed.length,
        bytes: 5001,
      });
    }
  });

  test.each(['--format=gnu', '--format=pax', '--format=ustar', '--format=v7'])("GNU tar's %s", async (format) => {
    const source = join(root, 'source');
    const long = format === '--format=v7' ? 'n'.repeat(90) : `${'d'.repeat(80)}/${'n'.repeat(80)}`;
    mkdirSync(join(source, long, '..'), { recursive: true });
    writeFileSync(join(source, long), 'long');
    writeFileSync(join(source, 'exe'), '#!/bin/sh', { mode: 0o755 });
    symlinkSync('exe', join(source, 'link'));
    const tar = execFileSync('tar', ['-C', source, format, '-c', '.']);
    rmSync(source, { recursive: true });
    await unpack(tar);
    expect(readFileSync(join(root, long), 'utf8')).toBe('long');
    expect(statSync(join(root, 'exe')).mode & 0o777).toBe(0o755);
    expect(readlinkSync(join(root, 'link'))).toBe('exe');
  });

  test('names from extended headers, with blanks, line feeds and other letters', async () => {
    const name = `ä b\nc/${'z'.repeat(200)}`;
    const pax = paxRecord('path', name) + paxRecord('mtime', '1500000000.5');
    await unpack(
      tarOf(
        { name: 'PaxHeader', type: 'x', data: pax },
        { name: 'short', data: 'one' },
        { name: '././@LongLink', type: 'L', data: `${'g'.repeat(150)}\0`, magic: 'ustar  \0' },
        { name: 'short', data: 'two', magic: 'ustar  \0' },
        { name: 'plain', prefix: 'some/prefix', data: 'three' },
      ),
    );
    expect(readFileSync(join(root, name), 'utf8')).toBe('one');
    expect(statSync(join(root, name)).mtimeMs).toBe(1_500_000_000_500);
    expect(readFileSync(join(root, 'g'.repeat(150)), 'utf8')).toBe('two');
    expect(readFileSync(join(root, 'some/prefix/plain'), 'utf8')).toBe('three');
  });

  test('the last of two entries with one name counts, and leaves a hard link alone', async () => {
    await unpack(tarOf({ name: 'a', data: 'old' }, { name: 'b', type: '1', link: 'a' }, { name: 'a', data: 'new' }));
    expect([readFileSync(join(root, 'a'), 'utf8'), readFileSync(join(root, 'b'), 'utf8')]).toEqual(['new', 'old']);
  });

  test('padding after the end mark, and a single block of zeros as one', async () => {
    await unpack(Buffer.concat([tarOf({ name: 'a' }), Buffer.alloc(8192)]));
    await unpack(Buffer.concat([encode({ name: 'b' }), Buffer.alloc(512)]));
    expect(readdirSync(root).sort()).toEqual(['a', 'b']);
  });
});

describe('what it refuses', () => {
  test.each([
    [{ name: '../outside', data: 'x' }],
    [{ name: 'a/../../outside', data: 'x' }],
    [{ name: 'a/..', type: '5' }],
    [{ name: '/etc/outside', data: 'x' }],
    [{ name: '//outside', data: 'x' }],
    [{ name: 'hard', type: '1', link: '../outside' }],
    [{ name: 'hard', type: '1', link: '/etc/hostname' }],
    [{ name: 'hard', type: '1', link: 'not-there' }],
    [{ name: 'hard', type: '1', link: 'hard' }],
    [{ name: 'link', type: '2', link: '' }],
    [{ name: './', data: 'x' }],
    [{ name: 'null', type: '3' }],
    [{ name: 'disk', type: '4' }],
    [{ name: 'pipe', type: '6' }],
    [{ name: 'sparse', type: 'S' }],
    [{ name: 'x'.repeat(99), type: 'D' }],
  ])('the entry %j', async (entry) => {
    await refused(entry);
    expect(readdirSync(root)).toEqual([]);
  });

  test('`..` and absolute names that an extended header brings', async () => {
    for (const path of ['../outside', '/outside', 'a/\0b']) {
      await refused({ name: 'x', type: 'x', data: paxRecord('path', path) }, { name: 'ok', data: 'x' });
      await refused({ name: 'x', type: 'g', data: paxRecord('path', path) }, { name: 'ok', data: 'x' });
    }
    await refused({ name: 'l', type: 'L', data: '../outside\0' }, { name: 'ok', data: 'x' });
    await refused({ name: 'k', type: 'K', data: '../outside\0' }, { name: 'ok', type: '1', link: 'x' });
  });

  test('what would be written through a link', async () => {
    await refused({ name: 'out', type: '2', link: '..' }, { name: 'out/outside', data: 'x' });
    await refused({ name: 'out', type: '2', link: dir }, { name: 'out/new/deeper', data: 'x' });
    await refused(
      { name: 'a/out', type: '2', link: '../..' },
      { name: 'a/out/', type: '5' },
      { name: 'a/out/f', data: 'x' },
    );
    await refused({ name: 'in', type: '2', link: 'sub' }, { name: 'sub/', type: '5' }, { name: 'in/f', data: 'x' });
  });

  test('a file in the place of a link is written beside where it points', async () => {
    await unpack(tarOf({ name: 'f', type: '2', link: '../outside' }, { name: 'f', data: 'x' }));
    expect(readFileSync(join(root, 'f'), 'utf8')).toBe('x');
  });

  test('a hard link to a link, or through one', async () => {
    await refused({ name: 's', type: '2', link: '../outside' }, { name: 'h', type: '1', link: 's' });
    await refused({ name: 's', type: '2', link: '..' }, { name: 'h', type: '1', link: 's/outside' });
  });

  test('files and folders in each other’s place', async () => {
    await refused({ name: 'a/', type: '5' }, { name: 'a', data: 'x' });
    await refused({ name: 'a/', type: '5' }, { name: 'a', type: '2', link: 'b' });
    await refused({ name: 'a', data: 'x' }, { name: 'a/b', data: 'x' });
  });

  test('what is cut off, wherever', async () => {
    const tar = tarOf({ name: 'a', data: 'x'.repeat(700) }, { name: 'b', data: 'y' });
    for (const length of [0, 1, 511, 512, 600, 1535, 1536, 2000, 2048, 2560])
      await expect(unpack(tar.subarray(0, length))).rejects.toMatchObject({ code: 'CONTEXT_INVALID' });
    await expect(unpack(gzipSync(tar).subarray(0, 60))).rejects.toMatchObject({ code: 'CONTEXT_INVALID' });
  });

  test('what is no tar', async () => {
    const broken = header({ name: 'a' });
    broken[0] = 0x41;
    const badNumber = header({ name: 'a' });
    badNumber.write('9xyz', 124);
    const huge = header({ name: 'a' });
    huge.fill(0xff, 124, 136);
    huge[124] = 0xbf;
    const pieces = [Buffer.alloc(4096, 'x'), broken, seal(badNumber), seal(huge), gzipSync(Buffer.alloc(2000, 1))];
    for (const bytes of [
      ...pieces,
      Buffer.concat([gzipSync(tarOf({ name: 'a' })).subarray(0, 30), Buffer.alloc(90, 7)]),
    ])
      await expect(unpack(Buffer.concat([bytes, endMark]))).rejects.toMatchObject({ code: 'CONTEXT_INVALID' });
    await expect(unpack(Buffer.concat([endMark.subarray(0, 512), header({ name: 'a' })]))).rejects.toMatchObject({
      code: 'CONTEXT_INVALID',
    });
  });

  test('extended headers that are malformed, too long, or speak of sparse files', async () => {
    for (const data of [
      '12 path',
      '99999 path=x\n',
      '0 a=b\n',
      'x path=y\n',
      '6 abc\n',
      paxRecord('GNU.sparse.major', '1'),
    ])
      await refused({ name: 'x', type: 'x', data }, { name: 'ok' });
    await refused({ name: 'x', type: 'L', data: 'n'.repeat(2_000_000) }, { name: 'ok' });
    await refused({ name: 'x', type: 'x', data: paxRecord('path', 'n'.repeat(300)) }, { name: 'ok' });
  });

  test('whatever bytes: it refuses or unpacks, and never leaves its folder', async () => {
    const entry = fc.record({
      name: fc.oneof(fc.string({ maxLength: 40 }), fc.constantFrom('a', 'a/b', '../x', '/x', './', 'l/x', 'l')),
      type: fc.constantFrom('0', '1', '2', '5', 'x', 'L', 'K', '3', ''),
      data: fc.string({ maxLength: 600 }),
      link: fc.constantFrom('a', '..', '/tmp', 'l', ''),
      mode: fc.nat(0o7777),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 6 }), fc.nat(4000), async (entries, flip) => {
        rmSync(root, { recursive: true });
        mkdirSync(root);
        const bytes = tarOf(...entries);
        if (flip < bytes.length) bytes[flip] = (bytes[flip] ?? 0) ^ 0x5a;
        await unpack(bytes).catch((error: unknown) => {
          if (!(error instanceof BuildvisorError)) throw error;
        });
        expect(readdirSync(dir).sort()).toEqual(['outside', 'root']);
      }),
      { numRuns: 200, seed: 7 },
    );
  });
});

describe('its limits', () => {
  test('bytes: told by the header, before any is written', async () => {
    const limits = { bytes: 100 };
    await unpack(tarOf({ name: 'a', data: 'x'.repeat(100) }), limits);
    await expect(unpack(tarOf({ name: 'b', data: 'x'.repeat(101) }), limits)).rejects.toMatchObject({
      code: 'CONTEXT_TOO_LARGE',
      facts: { what: 'bytes', limit: 100 },
    });
    const liar = header({ name: 'c', size: 8 ** 11 - 1 });
    await expect(unpack(liar, limits)).rejects.toMatchObject({ code: 'CONTEXT_TOO_LARGE' });
    expect(readdirSync(root)).toEqual(['a']);
  });

  test('entries', async () => {
    const many = Array.from({ length: 11 }, (_, index) => ({ name: `f${index}` }));
    await expect(unpack(tarOf(...many), { bytes: 1000, entries: 10 })).rejects.toMatchObject({
      code: 'CONTEXT_TOO_LARGE',
      facts: { what: 'entries', limit: 10 },
    });
  });

  test('a stream without end behind the end mark, and one that unpacks to too much', async () => {
    const endless = async function* (): AsyncGenerator<Buffer> {
      yield tarOf({ name: 'a' });
      for (;;) yield Buffer.alloc(1024 ** 2);
    };
    await expect(unpackContext(endless(), root, { bytes: 1000 })).rejects.toMatchObject({ code: 'CONTEXT_TOO_LARGE' });
    const bomb = gzipSync(Buffer.concat([tarOf({ name: 'b' }), Buffer.alloc(100 * 1024 ** 2)]));
    expect(bomb.length).toBeLessThan(200_000);
    await expect(unpack(bomb, { bytes: 1000 })).rejects.toMatchObject({ code: 'CONTEXT_TOO_LARGE' });
  });

  test('a stream that stands still is left when the signal fires, with its reason', async () => {
    const stop = new AbortController();
    const still = async function* (): AsyncGenerator<Buffer> {
      yield header({ name: 'a', size: 1000 });
      stop.abort(new BuildvisorError('BUILD_CANCELLED', 'enough'));
      await new Promise(() => undefined);
    };
    await expect(unpackContext(still(), root, roomy, stop.signal)).rejects.toMatchObject({ code: 'BUILD_CANCELLED' });
  });

  test("the source's own error comes through, packed or not", async () => {
    const failing = async function* (first: Buffer): AsyncGenerator<Buffer> {
      yield first;
      throw new BuildvisorError('ABORTED', 'The client went away');
    };
    for (const first of [header({ name: 'a', size: 1000 }), gzipSync(tarOf({ name: 'a' })).subarray(0, 40)])
      await expect(unpackContext(failing(first), root, roomy)).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
