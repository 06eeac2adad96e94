import { connect } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { maxWindow, newFrame, preface, windowUpdate } from '../../agent/gate/wire/frames.ts';
import { settingIds, settingsFrame } from '../../agent/gate/wire/settings.ts';
import { type Lab, type LabOptions, openLab, request } from '../agent/gate/lab.ts';

const mib = 1024 ** 2;
const total = 500 * mib;
/** What both ends and the gate, all in this process, may take more while it passes. */
const mostMemory = 120 * mib;

let peak = 0;

/** A lab, whose test has its peak of memory watched. */
async function open(options: LabOptions): Promise<Lab> {
  const lab = await openLab(options);
  peak = 0;
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 10);
  onTestFinished(() => clearInterval(watch));
  return lab;
}

/** Writes `bytes` as fast as they are taken. */
async function pour(into: Writable, bytes: number): Promise<void> {
  const chunk = Buffer.alloc(64 * 1024, 'some bytes, ');
  for (let sent = 0; sent < bytes; sent += chunk.length)
    if (!into.write(chunk)) await new Promise((resolve) => into.once('drain', resolve));
  into.end();
}

/** Reads to the end with a pause for each 512 KiB; gives how many bytes there were. */
async function sip(from: Readable): Promise<number> {
  let bytes = 0;
  let next = 512 * 1024;
  for await (const chunk of from) {
    bytes += chunk.length;
    if (bytes < next) continue;
    next += 512 * 1024;
    await sleep(2);
  }
  return bytes;
}

test('500 MB to a client that reads slowly take no more memory than windows', async () => {
  const lab = await open({
    serve: (stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      void pour(stream, total);
    },
  });
  const before = process.memoryUsage.rss();
  const call = request(lab.client({ initialWindowSize: 4 * mib }));
  call.end();
  expect(await sip(call)).toBe(total);
  expect(peak - before).toBeLessThan(mostMemory);
});

test('500 MB to a buildkitd that reads slowly take no more memory than windows', async () => {
  let read: Promise<number> | undefined;
  const lab = await open({
    serve: (stream) => {
      read = sip(stream);
      void read.then(() => stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }));
    },
  });
  const before = process.memoryUsage.rss();
  const call = request(lab.client());
  const closed = new Promise((resolve) => call.once('close', resolve));
  call.resume();
  await pour(call, total);
  await closed;
  expect(await read).toBe(total);
  expect(peak - before).toBeLessThan(mostMemory);
});

test('a client that gives all windows and reads nothing stops its own call, and no other', async () => {
  let written = 0;
  const lab = await open({
    serve: (stream, headers) => {
      stream.respond({ ':status': 200 });
      if (headers[':path'] !== '/') {
        stream.end('abc');
        return;
      }
      const chunk = Buffer.alloc(64 * 1024);
      const more = (): void => {
        for (let taken = true; taken && !stream.destroyed; written += chunk.length) taken = stream.write(chunk);
        stream.once('drain', more);
      };
      more();
    },
  });
  const socket = connect(lab.socket);
  socket.pause();
  const headers = Buffer.from('\x83\x86\x84\x01\x01x', 'latin1');
  const begin = newFrame(1, 5, 1, headers.length);
  headers.copy(begin, 9);
  const settings = settingsFrame([[settingIds.initialWindowSize, maxWindow]]);
  socket.write(Buffer.concat([preface, settings, windowUpdate(0, maxWindow - 65_535), begin]));
  await sleep(1000);
  const atFirst = written;
  await sleep(500);
  expect(atFirst).toBeGreaterThan(0);
  expect(written).toBe(atFirst);
  expect(written).toBeLessThan(8 * mib);
  let got = '';
  for await (const chunk of request(lab.client()).end()) got += chunk;
  expect(got).toBe('abc');
  socket.destroy();
});
