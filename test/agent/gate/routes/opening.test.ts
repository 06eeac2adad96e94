import { gzipSync } from 'node:zlib';
import { expect, test, vi } from 'vitest';
import { frameMessage } from '../../../../agent/gate/messages.ts';
import { Opening } from '../../../../agent/gate/routes/opening.ts';

function open(): { opening: Opening; got: Buffer[] } {
  const got: Buffer[] = [];
  return { opening: new Opening((message) => got.push(message)), got };
}

test.each([1, 3, 100])('a message is given once, when it is whole, in pieces of %d bytes', (size) => {
  const { opening, got } = open();
  const body = Buffer.from('what is to be built');
  const bytes = Buffer.concat([frameMessage(body), frameMessage(Buffer.from('more'))]);
  for (let at = 0; at < bytes.length; at += size) opening.push(bytes.subarray(at, at + size));
  expect(got).toEqual([body]);
});

test('of a long message the beginning is given, as soon as it is there', () => {
  const { opening, got } = open();
  const bytes = frameMessage(Buffer.alloc(100_000, 7));
  for (let at = 0; at < bytes.length; at += 1_000) {
    opening.push(bytes.subarray(at, at + 1_000));
    expect(got).toHaveLength(at + 1_000 < 61_440 ? 0 : 1);
  }
  expect(got[0]?.length).toBeGreaterThan(61_000);
});

test('pieces that say nothing, and one byte at a time, cost what their number costs', () => {
  const { opening, got } = open();
  const begun = performance.now();
  for (let piece = 0; piece < 200_000; piece++) opening.push(Buffer.alloc(0));
  const bytes = frameMessage(Buffer.alloc(100_000, 7));
  for (let at = 0; at < 61_440; at++) opening.push(bytes.subarray(at, at + 1));
  expect(got).toHaveLength(1);
  expect(performance.now() - begun).toBeLessThan(1_000);
});

test('what is compressed is given as it was', () => {
  const { opening, got } = open();
  const zipped = gzipSync(Buffer.from('zipped'));
  const bytes = frameMessage(zipped);
  bytes[0] = 1;
  opening.push(bytes);
  expect(got).toEqual([Buffer.from('zipped')]);
});

test('a call that ends before its message is whole gives what there is', () => {
  const { opening, got } = open();
  opening.push(frameMessage(Buffer.from('cut off')).subarray(0, 8));
  opening.end();
  opening.end();
  const nothing = open();
  nothing.opening.end();
  expect(got).toEqual([Buffer.from('cut')]);
  expect(nothing.got).toEqual([Buffer.alloc(0)]);
});

test('whether the message is whole is said, also of one that is a bomb', () => {
  const heard: [number, boolean][] = [];
  const hear = (bytes: Buffer): void => {
    const opening = new Opening((message, isWhole) => heard.push([message.length, isWhole]));
    for (let at = 0; at < bytes.length; at += 4096) opening.push(bytes.subarray(at, at + 4096));
  };
  hear(frameMessage(Buffer.alloc(50_000)));
  hear(frameMessage(Buffer.alloc(70_000)));
  for (const size of [500_000, 20_000_000]) {
    const bomb = frameMessage(gzipSync(Buffer.alloc(size)));
    bomb[0] = 1;
    hear(bomb);
  }
  expect(heard).toEqual([
    [50_000, true],
    [61_435, false],
    [500_000, true],
    [0, false],
  ]);
});

test('a client that does not send its message is refused, one that has sent it is not', () => {
  vi.useFakeTimers();
  try {
    const refused: number[] = [];
    const call = { answer: ({ code }: { code: number }) => void refused.push(code), whenOver: () => undefined };
    const silent = new Opening(() => undefined, call);
    silent.push(Buffer.from([0, 0]));
    new Opening(() => undefined, call).push(frameMessage(Buffer.from('there')));
    vi.advanceTimersByTime(19_999);
    expect(refused).toEqual([]);
    vi.advanceTimersByTime(100_000);
    expect(refused).toEqual([4]);
  } finally {
    vi.useRealTimers();
  }
});
