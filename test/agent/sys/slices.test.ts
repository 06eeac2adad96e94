import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http2 from 'node:http2';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { slices, sliceWrites } from '../../../agent/sys/slices.ts';

const max = 32 * 1024;
let folder: string;
let server: Server;
let ours: Socket;
let theirs: Socket;
/** Bytes of each write that reached the kernel's side of `ours`. */
let written: number[];

/** Everything up to the end; unlike an iterator it leaves the other direction open. */
async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks);
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bv-slices-'));
  server = createServer({ allowHalfOpen: true });
  server.listen(join(folder, 's'));
  await once(server, 'listening');
  theirs = connect({ path: join(folder, 's'), allowHalfOpen: true });
  [ours] = (await once(server, 'connection')) as [Socket];
  written = [];
  const write = ours._write.bind(ours);
  ours._write = (chunk: Buffer, encoding, done) => {
    written.push(chunk.length);
    write(chunk, encoding, done);
  };
});

afterEach(async () => {
  ours.destroy();
  theirs.destroy();
  server.close();
  await rm(folder, { recursive: true });
});

describe('slices', () => {
  it('keeps every byte in order, in pieces of 1 to max bytes, all but the last full', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), fc.integer({ min: 1, max: 64 }), (arrays, size) => {
        const buffers = arrays.map((array) => Buffer.from(array));
        const pieces = [...slices(buffers, size)];
        expect(Buffer.concat(pieces)).toEqual(Buffer.concat(buffers));
        expect(pieces.slice(0, -1).every((piece) => piece.length === size)).toBe(true);
        expect(pieces.every((piece) => piece.length > 0 && piece.length <= size)).toBe(true);
      }),
    );
  });
});

describe('sliceWrites', () => {
  it('carries large writes both ways and never writes more than the limit at once', async () => {
    const sent = Buffer.alloc(3_000_001, 'abcdefg');
    const stream = sliceWrites(ours);
    const received = collect(theirs);
    stream.write(sent.subarray(0, 1_000_000));
    stream.write(sent.subarray(1_000_000, 1_000_009));
    stream.end(sent.subarray(1_000_009));
    expect((await received).equals(sent)).toBe(true);
    expect(Math.max(...written)).toBe(max);

    const back = collect(stream);
    theirs.end(sent);
    expect((await back).equals(sent)).toBe(true);
  });

  it('joins small writes that queue up', async () => {
    const stream = sliceWrites(ours);
    const received = collect(theirs);
    for (let n = 0; n < 10_000; n++) stream.write('123456789\n');
    stream.end();
    expect((await received).length).toBe(100_000);
    expect(written.length).toBeLessThan(10);
  });

  it('holds the writer back while the peer does not read', async () => {
    const stream = sliceWrites(ours);
    theirs.pause();
    const chunk = Buffer.alloc(max);
    let sent = 0;
    while (stream.write(chunk)) {
      sent += chunk.length;
      expect(sent).toBeLessThan(16 * 1024 * 1024);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(ours.writableLength).toBeLessThanOrEqual(max);
    const drained = once(stream, 'drain');
    theirs.resume();
    await drained;
  });

  it('holds the peer back while nobody reads', async () => {
    const stream = sliceWrites(ours);
    for (let n = 0; n < 200; n++) theirs.write(Buffer.alloc(64 * 1024));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(stream.readableLength).toBeLessThan(512 * 1024);
    expect(theirs.writableLength).toBeGreaterThan(1024 * 1024);
  });

  it('gives what was received before the close to a late reader', async () => {
    const stream = sliceWrites(ours);
    stream.end('bye');
    theirs.resume();
    theirs.end(Buffer.alloc(10_000, 'x'));
    await once(theirs, 'close');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await collect(stream)).length).toBe(10_000);
  });

  it('closes when the peer is gone, and closes the socket when it is destroyed', async () => {
    const stream = sliceWrites(ours);
    stream.on('error', () => undefined);
    const closed = once(stream, 'close');
    theirs.destroy();
    stream.resume();
    stream.end();
    await closed;
    expect(ours.destroyed).toBe(true);
  });

  it('carries HTTP/2 without a write over the limit', async () => {
    const body = Buffer.alloc(2_000_000, 'h2');
    const h2 = http2.createServer((request, response) => {
      request.resume();
      response.end(body);
    });
    h2.emit('connection', sliceWrites(ours));
    const client = http2.connect('http://x', { createConnection: () => theirs });
    try {
      expect((await collect(client.request({ ':path': '/' }))).equals(body)).toBe(true);
      expect(written.reduce((sum, size) => sum + size, 0)).toBeGreaterThan(body.length);
      expect(Math.max(...written)).toBeLessThanOrEqual(max);
    } finally {
      client.destroy();
      h2.close();
    }
  });
});
