import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { frameMessage } from '../../../../agent/gate/messages.ts';
import { Opening } from '../../../../agent/gate/routes/opening.ts';
import { readSolveRequest } from '../../../../agent/gate/solves/solve-request.ts';
import { writeBytes, writeNumber, writeString } from '../../../../common/protobuf.ts';

const shared = writeBytes(
  7,
  Buffer.concat([writeString(1, 'local-sessionid:context'), writeString(2, 'shared-session')]),
);
const request = Buffer.concat([
  ...[writeString(1, 'the-ref'), writeBytes(2, Buffer.alloc(40_000, 1)), writeString(5, 'own-session')],
  ...[writeString(6, 'dockerfile.v0'), shared, shared, writeNumber(11, 1), writeString(15, 'policy-session')],
]);

test('what matters of a Solve is read', () => {
  expect(readSolveRequest(request)).toMatchObject({
    ...{ ref: 'the-ref', internal: true, isGateway: false },
    sessions: ['own-session', 'shared-session', 'policy-session'],
  });
  const gateway = Buffer.concat([writeString(1, 'r'), writeBytes(2, Buffer.alloc(0)), writeString(5, 's')]);
  expect(readSolveRequest(gateway)).toMatchObject({ ref: 'r', internal: false, isGateway: true, sessions: ['s'] });
});

test('of any beginning what is there is read, and noise does no harm', () => {
  fc.assert(
    fc.property(fc.nat(request.length), (length) => {
      const { ref, isGateway } = readSolveRequest(request.subarray(0, length));
      if (length >= 9) expect(ref).toBe('the-ref');
      // The definition is known by its first byte.
      if (length > 13) expect(isGateway).toBe(false);
    }),
    { numRuns: 300 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => void readSolveRequest(Buffer.from(noise))));
});

test.each([
  ['as it is', frameMessage(request)],
  ['compressed', Buffer.concat([Buffer.from([1, 0, 0, 0, 0]), gzipSync(request)])],
])('the beginning of a message is enough, in whatever bits it comes: %s', (name, framed) => {
  if (name === 'compressed') framed.writeUInt32BE(framed.length - 5, 1);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1 }), (sizes) => {
      const heard: Buffer[] = [];
      const opening = new Opening((message) => heard.push(message));
      for (let at = 0, turn = 0; at < framed.length; turn++) {
        const size = sizes[turn % sizes.length] ?? 1;
        opening.push(framed.subarray(at, at + Math.max(size, 500)));
        at += Math.max(size, 500);
      }
      expect(heard.map(readSolveRequest)).toMatchObject([{ ref: 'the-ref', isGateway: false }]);
    }),
    { numRuns: 50 },
  );
});
