/** Against another implementation: nghttp2, of Node's http2, with its dynamic table and Huffman code. */
import { once } from 'node:events';
import { connect, createServer, type Http2Server, type ServerHttp2Stream, sensitiveHeaders } from 'node:http2';
import { type AddressInfo, connect as connectSocket, createServer as createSocketServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { encodeHeaders, type HeaderField, HpackDecoder } from '../../../../agent/gate/hpack/index.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const latin1 = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) });

test('what was encoded comes back', () => {
  const fields = fc.array(fc.tuple(latin1, latin1), { maxLength: 30 });
  fc.assert(
    fc.property(fields, fc.integer({ min: 0, max: 4096 }), (list, tableSize) => {
      const decoder = new HpackDecoder({ tableSize, maxListBytes: 2 ** 20 });
      expect(decoder.decode(encodeHeaders(list))).toEqual(list);
    }),
  );
});

/** The frames of a connection as they come, each with its type, flags, stream and payload. */
async function* framesOf(
  socket: Socket,
  preface: number,
): AsyncGenerator<{ type: number; flags: number; payload: Buffer }> {
  let kept = Buffer.alloc(0);
  let skip = preface;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    kept = Buffer.concat([kept, chunk]);
    if (kept.length < skip) continue;
    kept = kept.subarray(skip);
    skip = 0;
    while (kept.length >= 9 && kept.length >= 9 + kept.readUIntBE(0, 3)) {
      const end = 9 + kept.readUIntBE(0, 3);
      yield { type: kept[3] ?? 0, flags: kept[4] ?? 0, payload: kept.subarray(9, end) };
      kept = kept.subarray(end);
    }
  }
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

test("a client's calls, each like the ones before and a little different, are read as they were sent", async () => {
  const server = createSocketServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const { port } = server.address() as AddressInfo;
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  const [socket] = await accepted;
  closers.push(
    () => session.destroy(),
    () => socket.destroy(),
    () => server.close(),
  );
  const rounds = 60;
  const sent: [string, string][][] = [];
  for (let round = 0; round < rounds; round++) {
    const fields: [string, string][] = [
      [':method', 'POST'],
      [':path', `/moby.buildkit.v1.Control/${['Solve', 'Status', 'Session'][round % 3]}`],
      [':scheme', 'http'],
      [':authority', 'localhost'],
      ['content-type', 'application/grpc'],
      ['user-agent', 'grpc-go/1.83.2'],
      ['te', 'trailers'],
      ['traceparent', `00-${String(round).padStart(32, '0')}-01`],
      ['x-round', 'é'.repeat(round)],
      // Longer than a seventh of the table: over the rounds it overflows again and again.
      ['x-long', String.fromCharCode(33 + round).repeat(700)],
      ['authorization', `secret ${round % 5}`],
    ];
    sent.push(fields);
    const request = session.request(
      { ...Object.fromEntries(fields), [sensitiveHeaders]: ['authorization'] },
      { endStream: true },
    );
    request.on('error', () => undefined);
  }
  socket.write(frame(4, 0, 0, Buffer.alloc(0)));
  const decoder = new HpackDecoder({ tableSize: 4096, maxListBytes: 65_536 });
  const read: HeaderField[][] = [];
  for await (const { type, payload } of framesOf(socket, 24)) {
    if (type !== 1) continue;
    read.push(decoder.decode(payload));
    if (read.length === rounds) break;
  }
  const sorted = (fields: readonly HeaderField[]) => fields.map((field) => [...field]).sort();
  expect(read.map(sorted)).toEqual(sent.map(sorted));
});

test('a server reads what was encoded, and its answers are read, also once it was told to remember nothing', async () => {
  const server: Http2Server = createServer();
  const seen: string[][] = [];
  server.on('stream', (stream: ServerHttp2Stream, _headers, _flags, raw: string[]) => {
    seen.push(raw);
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'x-answer': `to ${seen.length}` },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': '' }));
    stream.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connectSocket((server.address() as AddressInfo).port, '127.0.0.1');
  closers.push(
    () => socket.destroy(),
    () => server.close(),
  );
  const tableSize = Buffer.from([0, 1, 0, 0, 0, 0]);
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, tableSize)]));
  const fields: HeaderField[] = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/moby.buildkit.v1.Control/ListWorkers'],
    [':authority', 'localhost'],
    ['te', 'trailers'],
    ['x-value', 'ÿ!~ \u00e9'],
  ];
  const rounds = 20;
  for (let round = 0; round < rounds; round++) socket.write(frame(1, 5, round * 2 + 1, encodeHeaders(fields)));
  const decoder = new HpackDecoder({ tableSize: 0, maxListBytes: 65_536 });
  const answers: HeaderField[][] = [];
  for await (const { type, payload } of framesOf(socket, 0)) {
    if (type !== 1) continue;
    answers.push(decoder.decode(payload));
    if (answers.length === rounds * 2) break;
  }
  expect(seen).toEqual(Array.from({ length: rounds }, () => fields.flat()));
  const heads = answers.filter(([first]) => first?.[0] === ':status');
  const told = heads.map((list) => list.find(([name]) => name === 'x-answer')?.[1]);
  expect(told.sort()).toEqual(Array.from({ length: rounds }, (_, at) => `to ${at + 1}`).sort());
  const trailers = answers.filter(([first]) => first?.[0] !== ':status');
  for (const list of trailers)
    expect(list).toEqual([
      ['grpc-status', '0'],
      ['grpc-message', ''],
    ]);
});
