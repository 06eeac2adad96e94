import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { beforeEach, expect, test } from 'vitest';
import type { Call, CallEnd, HeaderField } from '../../../../agent/gate/call.ts';
import type { GateRecorder } from '../../../../agent/gate/recorder.ts';
import { grpcCodes } from '../../../../agent/gate/status.ts';
import { CallStream } from '../../../../agent/gate/streams/call-stream.ts';
import type { Link } from '../../../../agent/gate/streams/link.ts';
import { dataFrames, errorCodes, frameHeaderBytes, rstStream } from '../../../../agent/gate/wire/frames.ts';
import { newLink } from '../new-link.ts';

let client: PassThrough;
let link: Link;
const ends: CallEnd[] = [];
beforeEach(() => {
  client = new PassThrough();
  link = newLink(client);
  ends.length = 0;
});

/** A call whose client has not said all yet. */
function begin(decide: (call: Call) => void): CallStream {
  const start = { id: 1, path: '/a.B/C', origin: {}, headers: [], ended: false };
  const call = new CallStream(link, { activity: () => undefined } as unknown as GateRecorder, start);
  call.decide((decided) => {
    decide(decided);
    return { ended: (end) => ends.push(end) };
  });
  return call;
}

test('a call that buildkitd has ended is over, and is known until its client has said all', () => {
  const call = begin((held) => held.open());
  call.upstream.headers(
    [
      [':status', '200'],
      ['grpc-status', '0'],
    ],
    true,
  );
  expect(ends).toMatchObject([{ status: { code: grpcCodes.ok }, calledOff: false }]);
  expect([call.isOver, link.calls.size, link.open.size]).toEqual([true, 1, 1]);
  const [frame = Buffer.alloc(0)] = dataFrames(1, Buffer.from('the rest'), true);
  call.clientData({ frame, content: frame.subarray(frameHeaderBytes), ended: true });
  expect([link.calls.size, link.open.size, ends.length]).toEqual([0, 0, 1]);
});

test('when buildkitd goes a held call is answered why, and an open one ends without an answer of its; each is told once', () => {
  for (const decide of [() => undefined, (call: Call) => call.open()]) {
    const call = begin(decide);
    call.upstream.lost('it has gone');
    call.upstream.lost('it has gone again');
    expect([call.isOver, link.calls.size, link.open.size]).toEqual([true, 0, 0]);
  }
  expect(ends).toMatchObject([
    { status: { code: grpcCodes.unavailable, message: 'it has gone' }, calledOff: false },
    { status: undefined, calledOff: false },
  ]);
});

test('a call that buildkitd did not take is one that its client may make again', async () => {
  const call = begin((held) => held.open());
  call.upstream.refused();
  await once(client, 'readable');
  expect(client.read()).toEqual(rstStream(1, errorCodes.refusedStream));
  expect(ends).toEqual([{ status: undefined, calledOff: false }]);
});

test('what buildkitd has said to the end counts, also when it goes while that is read', async () => {
  const call = begin((held) => held.open());
  const { promise, resolve } = Promise.withResolvers<HeaderField[]>();
  call.upstream.headersLater(promise, true);
  call.upstream.lost('it has gone');
  expect(ends).toEqual([]);
  resolve([
    [':status', '200'],
    ['grpc-status', '5'],
    ['grpc-message', 'no such file'],
  ]);
  await promise;
  expect(ends).toMatchObject([{ status: { code: 5, message: 'no such file' }, calledOff: false }]);
  expect([call.isOver, link.calls.size, link.open.size]).toEqual([true, 0, 0]);
});
