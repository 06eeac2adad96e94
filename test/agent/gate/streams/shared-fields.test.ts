import { expect, test } from 'vitest';
import { SharedFields } from '../../../../agent/gate/streams/shared-fields.ts';

/** Headers as a decoder gives them: no two share anything. */
function headers(ref: string): [string, string][] {
  return [
    [':path', '/moby.buildkit.v1.Control/Status'],
    ['content-type', 'application/grpc'],
    ['also', 'application/grpc'],
    ['buildkit-controlapi-buildid', ref],
  ];
}

test('equal fields are one object, and all say what they said', () => {
  const fields = new SharedFields();
  const all = Array.from({ length: 5000 }, (_, index) => fields.share(headers(`ref${index}`)));
  expect(all).toEqual(Array.from({ length: 5000 }, (_, index) => headers(`ref${index}`)));
  expect(new Set(all.map(([path]) => path)).size).toBeLessThan(10);
  expect(fields.size).toBeLessThanOrEqual(1024);
});

test('long values are left alone', () => {
  const fields = new SharedFields();
  const long: [string, string] = ['grpc-message', 'x'.repeat(300)];
  expect(fields.share([long])[0]).toBe(long);
  expect(fields.size).toBe(0);
});
