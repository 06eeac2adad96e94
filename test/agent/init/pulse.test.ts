import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { startAgent } from '../../../agent/init/agent-process.ts';
import { watchPulse } from '../../../agent/init/pulse.ts';

const limits = { everyMs: 20, silentMs: 200 };

/** An agent that answers every ping, and stops itself when it is told to. */
const answering = `
const { Socket } = require('node:net');
const link = new Socket({ fd: 3 });
link.setEncoding('utf8');
link.on('data', (text) => {
  if (text.includes('"stop"')) process.kill(process.pid, 'SIGSTOP');
  link.write('{"type":"pong"}\\n');
});
`;

test('who answers is left alone, however long; who does not is told of once', async () => {
  const silences: number[] = [];
  let asked = 0;
  let deaf = false;
  const pulse = watchPulse({
    limits,
    ask() {
      asked++;
      if (!deaf) pulse.beat();
    },
    onSilent: (silentMs) => silences.push(silentMs),
  });
  await sleep(500);
  expect(asked).toBeGreaterThan(10);
  expect(silences).toEqual([]);
  deaf = true;
  await sleep(500);
  expect(silences).toEqual([200]);
  pulse.end();
});

test('an agent that runs and does not answer any more is killed, and its exit says so', async () => {
  const said: string[] = [];
  const own = new Set<number>();
  const agent = startAgent({
    ...{ file: process.execPath, args: ['-e', answering], env: process.env, outputFd: 2, own },
    say: (text) => said.push(text),
    pulse: { everyMs: 100, silentMs: 2_000 },
  });
  const early = await Promise.race([agent.exited, sleep(3_000)]);
  expect(early).toBeUndefined();
  agent.stop('stand still');
  await expect(agent.exited).resolves.toMatchObject({ description: 'no sign of life for 2.0s' });
  expect(said).toContain('killing the agent: no sign of life for 2.0s');
  expect(own.size).toBe(0);
});
