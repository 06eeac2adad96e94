/** What is read is only lent: the memory is used again. In these tests it is overwritten as soon as it may be. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { encodeHeaders } from '../../../agent/gate/hpack/index.ts';
import type { GateRecorder } from '../../../agent/gate/recorder.ts';
import { CallStream } from '../../../agent/gate/streams/call-stream.ts';
import { HeaderBlocks } from '../../../agent/gate/streams/header-blocks.ts';
import { FrameReader } from '../../../agent/gate/wire/frame-reader.ts';
import {
  dataFrames,
  frameHeaderBytes,
  frameTypes,
  headerFrames,
  preface,
  windowUpdate,
} from '../../../agent/gate/wire/frames.ts';
import { ReadMemory } from '../../../agent/gate/wire/read-memory.ts';
import { settingIds, settingsFrame } from '../../../agent/gate/wire/settings.ts';
import { pollUntil } from '../../../common/wait.ts';
import { openLab } from './lab.ts';
import { newLink } from './new-link.ts';

/** Bytes of which no two places are alike. */
function numbered(bytes: number): Buffer {
  return Buffer.from(Uint32Array.from({ length: bytes / 4 }, (_, index) => index).buffer);
}

test('a header block in pieces is a copy', () => {
  const blocks = new HeaderBlocks(100);
  for (const piece of ['one ', 'two ', 'three']) {
    const lent = Buffer.from(piece);
    blocks.add(lent);
    lent.fill(0xdd);
  }
  expect(blocks.join().toString()).toBe('one two three');
});

test('DATA that waits for headers that take their time is a copy', async () => {
  const sent = new PassThrough();
  const link = newLink(sent);
  const start = { id: 1, path: '/a.B/C', origin: {}, headers: [], ended: false };
  const call = new CallStream(link, { activity: () => undefined } as unknown as GateRecorder, start);
  call.decide((opened) => {
    opened.open();
    return {};
  });
  const headers = Promise.withResolvers<[string, string][]>();
  call.upstream.headersLater(headers.promise, false);
  const [frame = Buffer.alloc(0)] = dataFrames(1, Buffer.from('what comes after'), false);
  call.upstream.data({ frame, content: frame.subarray(frameHeaderBytes), ended: false });
  frame.fill(0xdd);
  headers.resolve([[':status', '200']]);
  await once(sent, 'readable');
  expect(String(sent.read())).toContain('what comes after');
});

test('a client that takes its answer late gets every byte of it', async () => {
  const answer = numbered(8 * 1024 ** 2);
  const lab = await openLab({
    serve(stream) {
      stream.respond({ ':status': 200 });
      stream.end(answer);
    },
  });
  const socket = connect(lab.socket);
  const all = 2 ** 30;
  const headers = encodeHeaders([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':authority', 'a'],
    [':path', '/a.B/C'],
  ]);
  socket.write(Buffer.concat([preface, settingsFrame([[settingIds.initialWindowSize, all]]), windowUpdate(0, all)]));
  socket.write(headerFrames(1, headers, true));
  socket.pause();
  await new Promise((resolve) => setTimeout(resolve, 300));
  let rest = Buffer.alloc(0);
  let bytes = 0;
  const contents: Buffer[] = [];
  const reader = new FrameReader((frame) => {
    if (frame[3] !== frameTypes.data) return;
    contents.push(frame.subarray(frameHeaderBytes));
    bytes += frame.length - frameHeaderBytes;
  });
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    rest = rest.subarray(reader.push(rest));
  });
  socket.resume();
  await pollUntil({ limitMs: 8000, everyMs: 5, what: 'the answer' }, () => bytes >= answer.length || undefined);
  socket.destroy();
  expect(Buffer.concat(contents).equals(answer)).toBe(true);
});

test('memory keeps what is lent and what is not done with, and is used again otherwise', () => {
  const memory = new ReadMemory((again) => again.fill(0xdd));
  const read = (text: string): Buffer => {
    memory.room.write(text);
    return memory.add(text.length);
  };
  const first = read('first');
  memory.done(5, true);
  const second = read('second and a half');
  expect(`${first} ${second}`).toBe('first second and a half');
  memory.done(7, true);
  expect(read(' of it').toString()).toBe('and a half of it');
  memory.done(4, false);
  expect(read(', whole').toString()).toBe('a half of it, whole');
  expect(first.toString()).not.toBe('first');
});

test('memory grows once it was filled, and there is always room for a frame', () => {
  const memory = new ReadMemory();
  const { length } = memory.room;
  memory.add(length);
  memory.done(length - 10, false);
  expect(memory.room.length).toBeGreaterThan(4 * length);
  for (let at = 0; at < 100; at++) {
    memory.add(9000);
    memory.done(9000, true);
    expect(memory.room.length).toBeGreaterThanOrEqual(16_384 + frameHeaderBytes);
  }
});

test('memory that was lent is used again when it is not any more', () => {
  const used = new Set<ArrayBufferLike>();
  const memory = new ReadMemory();
  memory.add(memory.room.length);
  for (let at = 0; at < 100; at++) {
    const { room } = memory;
    used.add(room.buffer);
    memory.add(room.length);
    memory.done(room.length, true);
    expect(memory.room.buffer).not.toBe(room.buffer);
    memory.reclaim();
  }
  expect(used.size).toBeLessThan(5);
});
