import { expect, test } from 'vitest';
import { writeNumber, writeString } from '../../../../common/protobuf.ts';
import { openDesk, type ScriptedCall, type ScriptedClient } from '../scripted.ts';

const control = '/moby.buildkit.v1.Control/';
const activeOnly = writeNumber(1, 1);
const ofOne = writeString(2, 'build');

function ask(client: ScriptedClient, method: string, messages: Buffer[]): ScriptedCall[] {
  return messages.map((message) => client.call(method, `${control}${method}`, [], message));
}

function opened(calls: ScriptedCall[]): number {
  return calls.filter(({ isOpen }) => isOpen).length;
}

test.each(['DiskUsage', 'ListenBuildHistory'])('of many %s a few are at buildkitd at a time', (method) => {
  const calls = ask(openDesk({ maxBuilds: 1 }).client(), method, Array(20).fill(Buffer.alloc(0)));
  expect(opened(calls)).toBe(4);
});

test('many clients together have a few of them, and other calls pass', () => {
  const { client } = openDesk({ maxBuilds: 1 });
  const calls = Array.from({ length: 30 }, () => ask(client(), 'DiskUsage', [Buffer.alloc(0), Buffer.alloc(0)])).flat();
  expect(opened(calls)).toBe(16);
  expect(opened(ask(client(), 'ListWorkers', [Buffer.alloc(0)]))).toBe(1);
});

test('the history of one build, or of those that run, is no listing', () => {
  const { client } = openDesk({ maxBuilds: 1 });
  const history = (message: Buffer): number =>
    opened(ask(client('', {}), 'ListenBuildHistory', Array(20).fill(message)));
  expect([activeOnly, ofOne, Buffer.concat([ofOne, writeNumber(3, 1)])].map(history)).toEqual([20, 20, 20]);
  expect(history(Buffer.concat([activeOnly, writeNumber(1, 0)]))).toBe(4);
  expect(opened(ask(client(), 'ListenBuildHistory', [Buffer.alloc(0)]))).toBe(1);
});

test('a history request whose end is not waited for is a listing: what comes last holds', () => {
  const long = Buffer.concat([ofOne, writeString(4, 'x'.repeat(100_000)), writeString(2, '')]);
  const client = openDesk({ maxBuilds: 1 }).client();
  const path = `${control}ListenBuildHistory`;
  const calls = Array.from({ length: 20 }, () => client.call('long', path, [], long, 16 * 1024));
  expect(opened(calls)).toBe(4);
});

test.each([
  // Wire types 3 and 4, of field 100.
  ['a group', Buffer.from([0xa3, 0x06, 0xa4, 0x06]), writeString(2, '')],
  // 2^32 + 2, which buildkitd takes for 2: google.golang.org/protobuf does not, planetscale/vtprotobuf does.
  ['a number that is too large', Buffer.from([0x92, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00]), Buffer.alloc(0)],
])('a history request with %s is a listing: buildkitd may read it otherwise', (_, odd, rest) => {
  const request = Buffer.concat([ofOne, odd, rest]);
  const calls = ask(openDesk({ maxBuilds: 1 }).client(), 'ListenBuildHistory', Array(20).fill(request));
  expect(opened(calls)).toBe(4);
});
