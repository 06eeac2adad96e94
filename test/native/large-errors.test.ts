/** Builds of Dockerfiles of many megabytes that fail, as every client sees them: the failing lines, their numbers, the true message. */
import { join } from 'node:path';
import { execa } from 'execa';
import { create } from 'tar';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient, BuildEvent } from '../../host/client/types.ts';
import type { Machine } from '../../host/machine/machines.ts';
import { brokenLine, failingStages, type LargeDockerfile } from '../fixtures/large-dockerfiles.ts';
import { TestMachines } from '../fixtures/machines.ts';
import { descendantsOf, findVictim, readProc } from '../fixtures/processes.ts';
import { buildctl, buildx, fromBusybox, makeContext } from './buildkitd.ts';

const entry = new URL('../../host/cli/main.ts', import.meta.url).pathname;
const scope = 'errors/large';
let machines: TestMachines;
let machine: Machine;
let client: ApiClient;

interface Case extends LargeDockerfile {
  context: string;
}
const cases = new Map<string, Case>();
const stages = 'a step that fails, in 10 MB of 4000 stages';
const parse = 'line 600,000 of 16 MB that is no instruction';

beforeAll(async () => {
  machines = new TestMachines({ driver: 'process', cacheBytes: 2 * 1024 ** 3, scratchBytes: 2 * 1024 ** 3 });
  machine = await machines.up(machines.scope(scope));
  client = connectApi(machine.apiSocket);
  const large = { [stages]: failingStages(fromBusybox), [parse]: brokenLine(fromBusybox) };
  for (const [name, dockerfile] of Object.entries(large)) {
    const context = await makeContext(machines.dir, dockerfile.text);
    cases.set(name, { ...dockerfile, context });
  }
});
afterAll(async () => {
  client?.close();
  await machines.close();
});

function caseOf(name: string): Case {
  const found = cases.get(name);
  if (!found) throw new Error(`there is no case ${name}`);
  return found;
}

/** What BuildKit's clients print, with the lines around from the whole file. */
function excerptOf({ text, line, failing }: Case): RegExp {
  const lines = text.split('\n');
  const around = [-2, -1, 0, 1, 2].map((off) => {
    const mark = off === 0 ? '>>>' : '   ';
    return `${String(line + off).padStart(4)} | ${mark} ${off === 0 ? failing : (lines[line + off - 1] ?? '')}`;
  });
  const shown = around.map((text) => `\\s*${text.trim().replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')}\\s*\n`).join('');
  return new RegExp(`Dockerfile:${line}\n-+\n${shown}\\s*-+\n`);
}

function expectShown(shown: string, known: Case): void {
  expect(shown).toMatch(excerptOf(known));
  expect(shown).toContain(known.message);
  expect(shown).not.toMatch(/COMPRESSION_ERROR|buildvisor left out|too long/);
}

const everyCase = [[stages], [parse]];

describe.each(everyCase)('%s', (name) => {
  test('in buildctl', async () => {
    const known = caseOf(name);
    const { context } = known;
    const dirs = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
    const run = await buildctl(machine.buildkitSocket, ['build', '--frontend=dockerfile.v0', ...dirs]);
    expect(run.exitCode).toBe(1);
    expectShown(run.stderr, known);
  });

  test('in buildx', async () => {
    const known = caseOf(name);
    const run = await buildx(machine.buildkitSocket, join(machines.dir, 'buildx'), ['build', known.context]);
    expect(run.exitCode).toBe(1);
    expectShown(run.stderr, known);
  });

  test('in our CLI, from a directory', async () => {
    const known = caseOf(name);
    const run = await cli(['build', known.context, '-s', scope]);
    expect(run.exitCode).toBe(1);
    expectShown(run.stderr, known);
    expect(run.stderr).toMatch(/^error: (?!failed to solve)/m);
  });
});

test('the agent needs little memory for that', () => {
  expect(peakMiB()).toBeLessThan(300);
});

describe.each(everyCase)('%s, over our API', (name) => {
  test('in our CLI, from a tar', async () => {
    const known = caseOf(name);
    const tar = await execa('tar', ['-C', known.context, '-c', '.'], { encoding: 'buffer' });
    const run = await cli(['build', '-', '-s', scope], tar.stdout);
    expect(run.exitCode).toBe(1);
    expectShown(run.stderr, known);
  });

  test('in our API, with each fact in its place', async () => {
    const known = caseOf(name);
    const tar = create({ cwd: known.context, portable: true }, ['Dockerfile', 'busybox']) as AsyncIterable<Buffer>;
    const events: BuildEvent[] = [];
    for await (const event of client.build({ id: name === stages ? 'stages' : 'parse' }, tar)) events.push(event);
    const error = events.find(({ result }) => result)?.result?.error;
    expect(error?.error).toMatchObject({ code: 'BUILD_FAILED', retryable: false });
    expect(error?.error?.message).toContain(known.message);
    expect(error?.source).toMatchObject({ file: 'Dockerfile', firstLine: known.line, lastLine: known.line });
    const { excerpt = [], excerptLine = 0 } = error?.source ?? {};
    expect(excerpt[known.line - excerptLine]).toBe(known.failing);
    const step = { step: expect.stringContaining(known.failing), exitCode: 3, logTail: ['it goes wrong'] };
    expect(error).toMatchObject(name === stages ? step : { step: '', exitCode: 0, logTail: [] });
  });
});

test('a Dockerfile of 20 MB is refused, and every client hears of the limit', async () => {
  const context = await makeContext(machines.dir, `${fromBusybox}${'# a comment\n'.repeat(1_700_000)}`);
  const limit = 'Dockerfile exceeds maximum allowed size of 16777216 bytes';
  const dirs = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
  expect((await buildctl(machine.buildkitSocket, ['build', '--frontend=dockerfile.v0', ...dirs])).stderr).toContain(
    limit,
  );
  expect((await cli(['build', context, '-s', scope])).stderr).toContain(`error: failed to read dockerfile: ${limit}`);
});

test('the agent needs little memory for that, and for contexts of so many megabytes', () => {
  expect(peakMiB()).toBeLessThan(512);
});

/** The most that the agent ever had resident (proc_pid_status(5), VmHWM in kB). */
function peakMiB(): number {
  const agent = findVictim('agent', descendantsOf(machine.state.monitor.pid));
  const [, peak] = /^VmHWM:\s+(\d+) kB$/m.exec(readProc(`/proc/${agent?.pid}/status`)) ?? [];
  return Number(peak) / 1024;
}

async function cli(args: string[], input: string | Uint8Array = ''): Promise<{ exitCode: number; stderr: string }> {
  const options = { reject: false, timeout: 240_000, input, env: { BUILDVISOR_DRIVER: 'process' } } as const;
  const { exitCode, stderr } = await execa(process.execPath, [entry, ...args], options);
  return { exitCode: exitCode ?? -1, stderr };
}
