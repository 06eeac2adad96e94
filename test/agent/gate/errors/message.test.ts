import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fitFields } from '../../../../agent/gate/errors/index.ts';
import { decodeMessage, encodeMessage, fitMessage, shortenMessage } from '../../../../agent/gate/errors/message.ts';
import { shortenFields } from '../../../../agent/gate/errors/shorten.ts';
import { fieldBytes } from '../../../../agent/gate/hpack/index.ts';
import { detail, errorTrailers } from '../../../fixtures/build-errors.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 200 });

test('what is encoded comes back, and every client can decode it', () => {
  fc.assert(
    fc.property(text, (message) => {
      const encoded = encodeMessage(message);
      expect(encoded).toMatch(/^[ -~]*$/);
      expect(decodeMessage(encoded).toString()).toBe(message);
      expect(decodeURIComponent(encoded)).toBe(message);
    }),
  );
  expect(decodeMessage('100% of %zz %4').toString()).toBe('100% of %zz %4');
});

test('a message fits, and loses no more than it must', () => {
  fc.assert(
    fc.property(text, fc.integer({ min: 0, max: 300 }), (message, most) => {
      const fitted = fitMessage(message, most);
      expect(message.startsWith(fitted)).toBe(true);
      expect(encodeMessage(fitted).length).toBeLessThanOrEqual(Math.max(most, 0));
      if (encodeMessage(message).length <= most) expect(fitted).toBe(message);
    }),
  );
});

test('of a message as long as a script the beginning and the end stay, and no letter is cut in half', () => {
  const script = 'é'.repeat(40_000);
  const message = Buffer.from(`process "/bin/sh -c ${script}" did not complete successfully: exit code: 7`);
  const shorter = shortenMessage(message);
  expect(shorter).toMatch(
    /^process "\/bin\/sh -c é+ … \(\d+ bytes were left out\) … é+" did not complete successfully: exit code: 7$/,
  );
  expect(Buffer.byteLength(shorter)).toBeLessThan(17_000);
});

test('both places where gRPC has the message say the same', () => {
  const message = `process "${'x'.repeat(100_000)}" failed: exit code: 7`;
  const solve = detail('errdefs.Solve', { op: 'x'.repeat(1_100_000) });
  const fields = errorTrailers(message, [solve]).map(([name, value]) => ({
    name,
    value: Buffer.from(value, name.endsWith('-bin') ? 'base64' : 'latin1'),
    missing: 0,
  }));
  const shorter = new Map(shortenFields(fields));
  const told = decodeURIComponent(shorter.get('grpc-message') ?? '');
  expect(told).toMatch(
    /exit code: 7 \(buildvisor left out a part of 1\.10 MB \(github\.com\/moby\/buildkit\/errdefs\.Solve\+json\)\)$/,
  );
  expect(Buffer.from(shorter.get('grpc-status-details-bin') ?? '', 'base64').includes(told)).toBe(true);
});

test('a list that was read at once is made to fit a client that takes little', () => {
  const trailers = errorTrailers('it failed', [
    detail('x', 'y'.repeat(9000)),
    detail('errdefs.Vertex', { digest: 'd' }),
  ]);
  expect(fitFields(trailers, 65_536)).toEqual(trailers);
  const fitted = fitFields(trailers, 4096);
  expect(fitted.reduce((sum, field) => sum + fieldBytes(field), 0)).toBeLessThanOrEqual(4096);
  expect(fitted.map(([name]) => name)).toEqual(['grpc-status', 'grpc-message', 'grpc-status-details-bin']);
  expect(fitted[1]?.[1]).toBe('it failed (buildvisor left out details, as this client takes 4.10 kB of headers)');
});

test('headers that are no end of a call get no message', () => {
  const fields = fitFields(
    [
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['x', 'y'.repeat(5000)],
    ],
    2000,
  );
  expect(fields.map(([name]) => name)).toEqual([':status', 'content-type']);
});
