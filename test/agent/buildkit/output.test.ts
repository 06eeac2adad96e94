import { once } from 'node:events';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { DaemonOutput } from '../../../agent/buildkit/output.ts';
import { openLog } from '../../../agent/log.ts';

const stack = Array.from({ length: 40 }, (_, n) => `main.call${n}\n\tgithub.com/moby/buildkit/main.go:${n}`).join('\n');

async function read(text: string): Promise<DaemonOutput> {
  const stream = Readable.from([text.slice(0, 30), text.slice(30)], { objectMode: false });
  const output = new DaemonOutput(stream, openLog('silent'));
  await once(stream, 'end');
  return output;
}

test('the reason is what buildkitd says itself, however long the stack below it', async () => {
  const log = '{"level":"info","msg":"auto snapshotter: using overlayfs"}';
  const output = await read(`${log}\nbuildkitd: invalid network mode: "nope"\n${stack}\nruntime/asm_amd64.s:1771\n`);
  expect(output.reason()).toBe('invalid network mode: "nope"');
  expect(output.tail()).toHaveLength(20);
});

test("a panic is a reason, a step's or a log's mention of one is not", async () => {
  expect((await read(`panic: page 7 already freed\n\ngoroutine 1 [running]:\n${stack}\n`)).reason()).toBe(
    'panic: page 7 already freed',
  );
  const log = '{"level":"error","msg":"panic: of a client"}\n{"level":"info","msg":"stopping server"}\n';
  expect((await read(log)).reason()).toBe('stopping server');
  expect((await read('')).reason()).toBeUndefined();
});
