import { expect, test } from 'vitest';
import { readGrpcStatus, toHeaders } from '../../../agent/gate/headers.ts';

test('repeated fields keep all their values', () => {
  expect(toHeaders([':path', '/x', 'X-A', '1', 'x-a', '2', 'x-a', '3'])).toEqual({
    ':path': '/x',
    'x-a': ['1', '2', '3'],
  });
});

test.each([
  [{ 'grpc-status': '0' }, { code: 0, message: '', details: undefined }],
  [
    { 'grpc-status': '2', 'grpc-message': 'a%20b%C3%BC' },
    { code: 2, message: 'a bü', details: undefined },
  ],
  [
    { 'grpc-status': '2', 'grpc-message': '100% sure' },
    { code: 2, message: '100% sure', details: undefined },
  ],
  [{ 'grpc-status-details-bin': 'CAI' }, { code: 2, message: '', details: Buffer.from([8, 2]) }],
])('the end of a call is read from %j', (trailers, expected) => {
  expect(readGrpcStatus(trailers)).toEqual(expected);
});
