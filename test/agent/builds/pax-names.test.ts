import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { unpackContext } from '../../../agent/builds/unpack.ts';
import { inChunks, paxRecord, tarOf } from './make-tar.ts';

let dir: string;
let root: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-pax-'));
  root = join(dir, 'root');
  mkdirSync(root);
});
afterEach(() => rmSync(dir, { recursive: true }));

test('a name in which a line reads like a record is a name, and hides nothing behind it', async () => {
  const name = 'ä\n12 size=512\nb';
  const source = join(dir, 'source');
  mkdirSync(source);
  for (const file of [name, 'Dockerfile', 'last']) writeFileSync(join(source, file), '');
  const tar = execFileSync('tar', ['-C', source, '--format=pax', '-c', name, 'Dockerfile', 'last']);
  expect(await unpackContext(inChunks(tar), root, { bytes: 10_000 })).toMatchObject({ entries: 3, bytes: 0 });
  expect(readdirSync(root).sort()).toEqual(['Dockerfile', 'last', name].sort());
});

test("letters that a chunk's border cuts", async () => {
  const name = 'ä'.repeat(120);
  const data = paxRecord('comment', 'c'.repeat(400)) + paxRecord('path', name);
  const tar = tarOf({ name: 'PaxHeader', type: 'x', data }, { name: 'short' });
  for (let size = 1024; size < 1030; size++) {
    await unpackContext(inChunks(tar, size), root, { bytes: 10_000 });
    expect(readdirSync(root)).toEqual([name]);
  }
});
