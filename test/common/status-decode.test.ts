import protobuf from 'protobufjs';
import { expect, test } from 'vitest';
import buildkitJson from '../../common/generated/buildkit.json' with { type: 'json' };
import { decodeStatus } from '../../common/status-decode.ts';

const StatusResponse = protobuf.Root.fromJSON(buildkitJson as unknown as protobuf.INamespace).lookupType(
  'moby.buildkit.v1.StatusResponse',
);
const encode = (status: object): Buffer =>
  Buffer.from(StatusResponse.encode(StatusResponse.fromObject(status)).finish());

const at = (seconds: number, nanos = 0): object => ({ seconds, nanos });

test('every field comes out as rawjson prints it', () => {
  const status = {
    vertexes: [
      {
        digest: 'sha256:a',
        inputs: ['sha256:b', 'sha256:c'],
        name: '[1/2] RUN ü',
        cached: true,
        started: at(1_795_256_742, 889_872_440),
        completed: at(1_795_256_743),
        error: 'no',
        progressGroup: { id: 'g', name: 'group', weak: true },
      },
    ],
    statuses: [
      {
        ID: 'layer',
        vertex: 'sha256:a',
        name: 'pull',
        current: 5,
        total: 2 ** 40,
        timestamp: at(1, 1),
        started: at(0),
      },
    ],
    logs: [{ vertex: 'sha256:a', timestamp: at(1, 500_000_000), stream: 2, msg: Buffer.from('why\n') }],
    warnings: [
      {
        vertex: 'sha256:a',
        level: 1,
        short: Buffer.from('short'),
        detail: [Buffer.from('d')],
        url: 'https://x',
        info: { filename: 'Dockerfile', data: Buffer.from('FROM'), language: 'Dockerfile' },
        ranges: [{ start: { line: 2, character: 1 }, end: { line: 3 } }],
      },
    ],
  };
  expect(decodeStatus(encode(status))).toEqual({
    vertexes: [
      {
        digest: 'sha256:a',
        inputs: ['sha256:b', 'sha256:c'],
        name: '[1/2] RUN ü',
        cached: true,
        started: '2026-11-21T10:25:42.88987244Z',
        completed: '2026-11-21T10:25:43Z',
        error: 'no',
        progressGroup: { id: 'g', name: 'group', weak: true },
      },
    ],
    statuses: [
      {
        id: 'layer',
        vertex: 'sha256:a',
        name: 'pull',
        current: 5,
        total: 2 ** 40,
        timestamp: '1970-01-01T00:00:01.000000001Z',
        started: '1970-01-01T00:00:00Z',
      },
    ],
    logs: [{ vertex: 'sha256:a', stream: 2, data: 'd2h5Cg==', timestamp: '1970-01-01T00:00:01.5Z' }],
    warnings: [
      {
        vertex: 'sha256:a',
        level: 1,
        short: 'c2hvcnQ=',
        detail: ['ZA=='],
        url: 'https://x',
        sourceInfo: { filename: 'Dockerfile', data: 'RlJPTQ==', language: 'Dockerfile' },
        range: [{ start: { line: 2, character: 1 }, end: { line: 3 } }],
      },
    ],
  });
});

test('what was not sent is left out', () => {
  expect(decodeStatus(Buffer.alloc(0))).toEqual({});
  expect(decodeStatus(encode({ logs: [{}], statuses: [{}], vertexes: [{}], warnings: [{}] }))).toEqual({
    vertexes: [{ digest: '', name: '' }],
    statuses: [{ id: '', vertex: '', current: 0, timestamp: '1970-01-01T00:00:00Z' }],
    logs: [{ vertex: '', data: '', timestamp: '1970-01-01T00:00:00Z' }],
    warnings: [{ vertex: '' }],
  });
});

test('negative and large numbers keep their value', () => {
  const status = encode({ statuses: [{ current: -1, total: -5_000_000_000 }] });
  expect(decodeStatus(status).statuses).toMatchObject([{ current: -1, total: -5_000_000_000 }]);
});

test('bytes that are no message are refused', () => {
  for (const bytes of ['0a', '0aff01', 'ffffffffffffffffffffff', '0f', '0a0108'])
    expect(() => decodeStatus(Buffer.from(bytes, 'hex')), bytes).toThrow(RangeError);
});
