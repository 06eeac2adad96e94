import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
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
    expect(got).toHaveLength(at + 1_000 < 16_384 ? 0 : 1);
  }
  expect(got[0]?.length).toBeGreaterThan(16_000);
});

test('pieces that say nothing, and one byte at a time, cost what their number costs', () => {
  const { opening, got } = open();
  const begun = performance.now();
  for (let piece = 0; piece < 200_000; piece++) opening.push(Buffer.alloc(0));
  const bytes = frameMessage(Buffer.alloc(100_000, 7));
  for (let at = 0; at < 16_384; at++) opening.push(bytes.subarray(at, at + 1));
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
