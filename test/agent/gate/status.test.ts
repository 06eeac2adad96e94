import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { HeaderField } from '../../../agent/gate/call.ts';
import { readGrpcStatus, statusFields } from '../../../agent/gate/status.ts';

test.each<[HeaderField[], object]>([
  [[['grpc-status', '0']], { code: 0, message: '', details: undefined }],
  [
    [
      ['content-type', 'application/grpc'],
      ['grpc-status', '2'],
      ['grpc-message', 'a%20b%C3%BC'],
    ],
    { code: 2, message: 'a bü', details: undefined },
  ],
  [
    [
      ['grpc-status', '2'],
      ['grpc-message', '100% sure'],
    ],
    { code: 2, message: '100% sure', details: undefined },
  ],
  [[['grpc-status-details-bin', 'CAI']], { code: 2, message: '', details: Buffer.from([8, 2]) }],
])('the end of a call is read from %j', (trailers, expected) => {
  expect(readGrpcStatus(trailers)).toEqual(expected);
});

test('a status is read as it was written, in printable ASCII', () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 16 }),
      fc.string({ unit: 'grapheme' }).map((text) => text.toWellFormed()),
      fc.option(fc.uint8Array({ minLength: 1 }), { nil: undefined }),
      (code, message, bytes) => {
        const status = { code, message, details: bytes && Buffer.from(bytes) };
        const fields = statusFields(status);
        for (const [, value] of fields) expect(value).toMatch(/^[ -~]*$/);
        expect(readGrpcStatus(fields)).toEqual(status);
      },
    ),
  );
});
