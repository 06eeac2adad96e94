import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

let home: string;
let artefact: typeof import('../../scripts/setup/artefact.ts').artefact;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'bv-artefact-'));
  vi.stubEnv('XDG_CACHE_HOME', home);
  vi.resetModules();
  ({ artefact } = await import('../../scripts/setup/artefact.ts'));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(home, { recursive: true, force: true });
});

const write =
  (text: string) =>
  (dir: string): Promise<void> =>
    writeFile(join(dir, 'file'), text);

test('is made once for the same inputs, and anew for others', async () => {
  const first = await artefact({ kind: 'k', inputs: ['a', 'b'], build: write('1') });
  const second = await artefact({
    kind: 'k',
    inputs: ['a', 'b'],
    build: () => Promise.reject(new Error('made again')),
  });
  const third = await artefact({ kind: 'k', inputs: ['ab'], build: write('2') });
  expect(second).toBe(first);
  expect(third).not.toBe(first);
  expect(await readFile(join(first, 'file'), 'utf8')).toBe('1');
});

test('leaves nothing behind when making it fails', async () => {
  const spec = { kind: 'k', inputs: ['a'], build: () => Promise.reject(new Error('no disk')) };
  await expect(artefact(spec)).rejects.toThrow('no disk');
  expect(await readdir(join(home, 'buildvisor/k'))).toEqual([]);
});

test('two that make it at once end with one', async () => {
  const both = ['1', '2'].map((text) => artefact({ kind: 'k', inputs: ['a'], build: write(text) }));
  const [one, two] = await Promise.all(both);
  expect(one).toBe(two);
  expect(await readdir(join(home, 'buildvisor/k'))).toHaveLength(1);
});
