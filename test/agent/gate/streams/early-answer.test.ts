import type { ClientHttp2Stream, ServerHttp2Stream } from 'node:http2';
import { expect, test } from 'vitest';
import type { Call } from '../../../../agent/gate/call.ts';
import { grpcCodes } from '../../../../agent/gate/status.ts';
import { endOf, type Lab, type LabOptions, openLab, request, settled } from '../lab.ts';

/** A lab whose calls are held, and those calls. */
async function open(serve: LabOptions['serve']): Promise<{ lab: Lab; calls: Call[] }> {
  const calls: Call[] = [];
  const route = (call: Call): object => {
    calls.push(call);
    return {};
  };
  return { lab: await openLab({ route, ...(serve && { serve }) }), calls };
}

/** All that a client hears on a call. */
function listen(call: ClientHttp2Stream): { heard: () => string; answers: () => number } {
  const chunks: Buffer[] = [];
  let answers = 0;
  call.on('response', () => answers++);
  call.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { heard: () => String(Buffer.concat(chunks)), answers: () => answers };
}

/** Answers in pieces, and says OK. */
const say =
  (...pieces: (string | Buffer)[]) =>
  (stream: ServerHttp2Stream): void => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    for (const piece of pieces) stream.write(piece);
    stream.end();
  };

const greeting = Buffer.from('good morning ');

test.each([
  ['in one piece', ['good morning to you']],
  ['in several', ['good', ' mor', 'ning ', 'to you']],
])('what was said early is left out of what buildkitd says %s', async (_, pieces) => {
  const { lab, calls } = await open(say(...pieces));
  const call = request(lab.client());
  const { heard, answers } = listen(call);
  const end = endOf(call);
  await settled('the call', () => calls.length === 1);
  expect(calls[0]?.answerEarly(greeting)).toBe(true);
  expect(calls[0]?.answerEarly(greeting)).toBe(false);
  await settled('the greeting', () => heard() === 'good morning ');
  calls[0]?.open();
  call.end();
  expect(await end).toMatchObject({ code: '0' });
  expect([heard(), answers()]).toEqual(['good morning to you', 1]);
  expect(calls[0]?.answerEarly(greeting)).toBe(false);
});

test('an answer that begins otherwise ends the call, and says so', async () => {
  const { lab, calls } = await open(say('good evening to you'));
  const call = request(lab.client());
  const end = endOf(call);
  await settled('the call', () => calls.length === 1);
  calls[0]?.answerEarly(greeting);
  calls[0]?.open();
  expect(await end).toMatchObject({ code: String(grpcCodes.internal) });
});

test('a call that buildkitd refuses, and one that the gate does, end with their status', async () => {
  const { lab, calls } = await open((stream) =>
    stream.respond({ ':status': 200, 'grpc-status': '5' }, { endStream: true }),
  );
  const client = lab.client();
  const ends = [request(client), request(client)].map(endOf);
  await settled('the calls', () => calls.length === 2);
  for (const call of calls) call.answerEarly(greeting);
  calls[0]?.open();
  calls[1]?.answer({ code: grpcCodes.resourceExhausted, message: 'full', details: undefined });
  expect((await Promise.all(ends)).map(({ code }) => code)).toEqual(['5', '8']);
});

test('a client that takes less is not greeted', async () => {
  const { lab, calls } = await open(say('good morning to you'));
  const call = request(lab.client({ initialWindowSize: 5 }));
  const { heard } = listen(call);
  const end = endOf(call);
  await settled('the call', () => calls.length === 1);
  expect(calls[0]?.answerEarly(greeting)).toBe(false);
  calls[0]?.open();
  expect(await end).toMatchObject({ code: '0' });
  expect(heard()).toBe('good morning to you');
});

test('windows are what they would be, however often it was done', async () => {
  // So much that a window which lost or won it would stall, or be broken.
  const early = Buffer.alloc(40_000, 'e');
  const long = Buffer.alloc(300_000, 'x');
  const { lab, calls } = await open(say(early, long));
  const client = lab.client();
  for (let round = 0; round < 30; round++) {
    const call = request(client);
    const { heard } = listen(call);
    const end = endOf(call);
    await settled('the call', () => calls.length === round + 1);
    expect(calls[round]?.answerEarly(early)).toBe(true);
    calls[round]?.open();
    call.end();
    expect(await end).toMatchObject({ code: '0' });
    expect(heard()).toHaveLength(early.length + long.length);
  }
});
