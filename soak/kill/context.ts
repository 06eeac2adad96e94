import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';

/** A context, as a tar, of a build with three steps of a third of a second each; `salt` makes them new. It needs busybox. */
export async function sleepingContext(salt: string): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'bv-soak-'));
  try {
    await copyFile('/bin/busybox', join(folder, 'busybox'));
    const step = (number: number): string => `RUN echo ${salt}-${number} > /${number}; exec /bin/busybox sleep 0.3`;
    const head = ['FROM scratch', 'COPY busybox /bin/busybox', 'SHELL ["/bin/busybox", "sh", "-c"]'];
    await writeFile(join(folder, 'Dockerfile'), [...head, ...[1, 2, 3].map(step), ''].join('\n'));
    const { stdout } = await execa('tar', ['-C', folder, '-c', '.'], { encoding: 'buffer' });
    return Buffer.from(stdout);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
