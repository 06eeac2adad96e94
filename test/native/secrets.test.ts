import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { buildOn, logOf, TestMachines } from '../fixtures/machines.ts';
import { fromBusybox, makeContext } from './buildkitd.ts';

const machines = new TestMachines({ driver: 'process', cacheBytes: 512 * 1024 ** 2, scratchBytes: 512 * 1024 ** 2 });
afterAll(() => machines.close());

/** The files below a folder that hold a text, volumes' images among them. */
function filesWith(text: string, folder: string): string[] {
  execFileSync('sync');
  return execFileSync('sh', ['-c', 'grep -rlaF -e "$1" "$2" || true', '-', text, folder], { encoding: 'utf8' })
    .split('\n')
    .filter((path) => path !== '');
}

test("a secret gets to its step and rests on none of the machine's disks, nor in its console and logs", async () => {
  const scope = machines.scope('a/secrets');
  const machine = await machines.up(scope);
  const [secret, plain] = [randomBytes(24).toString('hex'), randomBytes(24).toString('hex')];
  const file = join(machines.dir, 'token');
  writeFileSync(file, secret);
  const context = await makeContext(
    machines.dir,
    `${fromBusybox}COPY plain /plain\nRUN --mount=type=secret,id=npm busybox sha256sum /run/secrets/npm; exit 7\n`,
    { plain },
  );
  const failed = await buildOn(machine, { context, secrets: [`id=npm,src=${file}`] }).catch((error: Error) => error);
  expect(failed).toMatchObject({ code: 'BUILD_FAILED' });
  const passing = `${fromBusybox}RUN --mount=type=secret,id=npm busybox wc -c < /run/secrets/npm\n`;
  const { statuses } = await buildOn(machine, {
    context: await makeContext(machines.dir, passing),
    secrets: [`id=npm,src=${file}`],
  });
  expect(logOf(statuses)).toBe('48\n');
  const folder = machines.dirOf(scope);
  // What does rest there is found so.
  expect(filesWith(plain, folder)).toEqual([join(folder, 'cache.img')]);
  expect(filesWith(secret, folder)).toEqual([]);
});
