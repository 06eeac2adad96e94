import type { ServerHttp2Stream } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { HpackDecoder } from '../../../agent/gate/hpack/index.ts';
import {
  dataFrames,
  errorCodes,
  frameFlags,
  frameTypes,
  rstStream,
  windowUpdate,
} from '../../../agent/gate/wire/frames.ts';
import { type Setting, settingIds, settingsAck, settingsFrame } from '../../../agent/gate/wire/settings.ts';
import { frame } from '../../../soak/fuzz/wire.ts';
import { endOf, openLab, request, settled } from './lab.ts';
import { call, FakeUpstream, holder, Peer } from './peers.ts';

const isSettings = (frame: Buffer): boolean => frame[3] === frameTypes.settings && frame[4] === 0;
const isAck = (frame: Buffer): boolean => frame[3] === frameTypes.settings && frame[4] === frameFlags.ack;

/** A client, a gate that holds its calls, and a buildkitd that says what it likes. */
async function openEnds() {
  const held = holder();
  const upstream = new FakeUpstream(settingsFrame([]));
  onTestFinished(() => upstream.close());
  const lab = await openLab({ route: held.route, upstreamPath: upstream.path });
  const peer = new Peer(lab);
  // The gate's own SETTINGS, and buildkitd's first.
  await settled('the first settings', () => peer.frames.filter(isSettings).length === 2);
  peer.socket.write(Buffer.concat([settingsAck(), settingsAck()]));
  let said = 1;
  const acknowledged = (): number => upstream.frames.filter(isAck).length;
  const change = async (...settings: Setting[]): Promise<void> => {
    upstream.say(settingsFrame(settings));
    said++;
    await settled('the settings', () => peer.frames.filter(isSettings).length === said + 1);
  };
  return {
    ...{ ...held, lab, upstream, peer, change, acknowledged },
    /** What buildkitd changes, and the client takes. */
    agree: async (...settings: Setting[]): Promise<void> => {
      await change(...settings);
      peer.socket.write(settingsAck());
      await settled('its acknowledgement', () => acknowledged() === said);
    },
    /** What buildkitd has got of a stream. */
    got: (stream: number): { bytes: Buffer; ended: boolean } => {
      const frames = upstream.frames.filter((one) => one[3] === frameTypes.data && one.readUInt32BE(5) === stream);
      for (const one of frames) expect(one.length).toBeLessThanOrEqual(9 + 16_384);
      return {
        bytes: Buffer.concat(frames.map((one) => one.subarray(9))),
        ended: frames.some((one) => ((one[4] ?? 0) & frameFlags.endStream) !== 0),
      };
    },
    /** A PING that has gone all the way says that what was sent before has, too. */
    pass: async (): Promise<void> => {
      const before = upstream.frames.length;
      peer.socket.write(windowUpdate(0, 1));
      await settled('what was sent before', () =>
        upstream.frames.slice(before).some((one) => one[3] === frameTypes.windowUpdate && one.readUInt32BE(5) === 0),
      );
    },
  };
}

const bytes = Buffer.from(Array.from({ length: 60_000 }, (_, at) => at % 251));
const initialWindow = (value: number): Setting => [settingIds.initialWindowSize, value];

test('a call that was held is sent within the window that buildkitd has made smaller meanwhile, in its order', async () => {
  const { calls, peer, upstream, agree, got, pass } = await openEnds();
  peer.socket.write(Buffer.concat([call(1), ...dataFrames(1, bytes, true)]));
  await settled('the call', () => calls.length === 1);
  await agree(initialWindow(1000));
  calls[0]?.open();
  await settled('what fits', () => got(1).bytes.length >= 1000);
  await pass();
  expect(got(1)).toEqual({ bytes: bytes.subarray(0, 1000), ended: false });
  upstream.say(windowUpdate(1, 500));
  await settled('more', () => got(1).bytes.length >= 1500);
  await agree(initialWindow(3000));
  await settled('more by the settings', () => got(1).bytes.length >= 3500);
  await pass();
  expect(got(1).bytes).toHaveLength(3500);
  // 3000 less than nothing: credit is to make up for that first.
  await agree(initialWindow(0));
  upstream.say(windowUpdate(1, 3000));
  await pass();
  expect(got(1).bytes).toHaveLength(3500);
  upstream.say(windowUpdate(1, 1));
  await settled('one byte', () => got(1).bytes.length > 3500);
  await pass();
  expect(got(1).bytes).toHaveLength(3501);
  upstream.say(windowUpdate(1, 60_000));
  await settled('the end', () => got(1).ended);
  expect(got(1).bytes.equals(bytes)).toBe(true);
  peer.socket.destroy();
});

test('a window that buildkitd makes smaller holds at once, and one that it makes larger once the client knows', async () => {
  const { calls, peer, change, acknowledged, got, pass } = await openEnds();
  peer.socket.write(Buffer.concat([call(1), ...dataFrames(1, bytes.subarray(0, 5000), false)]));
  await settled('the call', () => calls.length === 1);
  await change(initialWindow(1000));
  await change(initialWindow(2000));
  calls[0]?.open();
  // The client has sent this before it read of the change.
  peer.socket.write(Buffer.concat(dataFrames(1, bytes.subarray(5000, 6000), true)));
  await settled('what fits', () => got(1).bytes.length >= 1000);
  await pass();
  expect(got(1)).toEqual({ bytes: bytes.subarray(0, 1000), ended: false });
  peer.socket.write(settingsAck());
  await settled('the first acknowledgement', () => acknowledged() === 2);
  await pass();
  expect(got(1).bytes).toHaveLength(1000);
  peer.socket.write(settingsAck());
  await settled('more', () => got(1).bytes.length >= 2000);
  await change(initialWindow(6000));
  peer.socket.write(settingsAck());
  await settled('the end', () => got(1).ended);
  expect(got(1).bytes.equals(bytes.subarray(0, 6000))).toBe(true);
  peer.socket.destroy();
});

test('a larger window is the client’s, of calls that are held as well', async () => {
  const { calls, peer, agree, got, upstream } = await openEnds();
  peer.socket.write(call(1));
  await settled('the call', () => calls.length === 1);
  await agree(initialWindow(200_000));
  peer.socket.write(Buffer.concat(dataFrames(1, Buffer.concat([bytes, bytes, bytes]).subarray(0, 65_535), false)));
  await settled('the credit of the connection', () =>
    peer.frames.some((one) => one[3] === frameTypes.windowUpdate && one.readUInt32BE(5) === 0),
  );
  peer.socket.write(Buffer.concat(dataFrames(1, Buffer.concat([bytes, bytes]).subarray(5535, 70_000), true)));
  calls[0]?.open();
  await settled('the connection’s window', () => got(1).bytes.length === 65_535);
  upstream.say(windowUpdate(0, 65_535));
  await settled('the end', () => got(1).ended);
  expect(got(1).bytes).toHaveLength(130_000);
  expect(got(1).bytes.equals(Buffer.concat([bytes, bytes, bytes]).subarray(0, 130_000))).toBe(true);
  peer.socket.destroy();
});

test('an acknowledgement does not overtake what was sent by the window before', async () => {
  const { calls, peer, upstream, change, acknowledged, got, pass } = await openEnds();
  peer.socket.write(Buffer.concat([1, 3].flatMap((stream) => [call(stream), ...dataFrames(stream, bytes, true)])));
  await settled('the calls', () => calls.length === 2);
  for (const one of calls) one.open();
  await settled('the connection’s window', () => got(1).bytes.length + got(3).bytes.length === 65_535);
  await change(initialWindow(100));
  peer.socket.write(settingsAck());
  await pass();
  expect(acknowledged()).toBe(1);
  upstream.say(windowUpdate(0, 65_535));
  await settled('the acknowledgement', () => acknowledged() === 2);
  expect(got(3).bytes.equals(bytes)).toBe(true);
  const last = (is: (one: Buffer) => boolean): number => upstream.frames.findLastIndex(is);
  expect(last(isAck)).toBeGreaterThan(last((one) => one[3] === frameTypes.data));
  peer.socket.destroy();
});

test('padding does not keep a call that was held waiting for ever', async () => {
  const { calls, peer, upstream, agree, got } = await openEnds();
  const padded = (content: Buffer, flags: number): Buffer =>
    frame(
      frameTypes.data,
      frameFlags.padded | flags,
      1,
      Buffer.concat([Buffer.from([200]), content, Buffer.alloc(200)]),
    );
  peer.socket.write(Buffer.concat([call(1), padded(bytes.subarray(0, 300), 0), padded(bytes.subarray(300, 600), 1)]));
  await settled('the call', () => calls.length === 1);
  await agree(initialWindow(100));
  calls[0]?.open();
  for (let at = 100; at < 600; at += 100) {
    await settled('more', () => got(1).bytes.length >= at);
    upstream.say(windowUpdate(1, 100));
  }
  await settled('the end', () => got(1).ended);
  expect(got(1).bytes.equals(bytes.subarray(0, 600))).toBe(true);
  // What the padding took is the client's again.
  expect(peer.has(windowUpdate(1, 201))).toBe(true);
  peer.socket.destroy();
});

test('a call whose rest buildkitd does not want is over at both ends', async () => {
  const { calls, ends, lab, peer, upstream, agree, got } = await openEnds();
  peer.socket.write(Buffer.concat([call(1), ...dataFrames(1, bytes, true), call(3), ...dataFrames(3, bytes, true)]));
  await settled('the calls', () => calls.length === 2);
  await agree(initialWindow(10));
  for (const one of calls) one.open();
  await settled('the beginnings', () => got(3).bytes.length === 10);
  upstream.say(frame(frameTypes.headers, frameFlags.endHeaders | frameFlags.endStream, 1, Buffer.from([0x88])));
  await settled('the first’s end', () => upstream.frames.some((one) => one.equals(rstStream(1, errorCodes.noError))));
  peer.socket.write(rstStream(3, errorCodes.cancel));
  await settled('the second’s end', () => upstream.frames.some((one) => one.equals(rstStream(3, errorCodes.cancel))));
  expect(ends).toHaveLength(2);
  upstream.say(windowUpdate(1, 100), windowUpdate(3, 100), settingsFrame([initialWindow(1000)]));
  await settled('the settings', () => peer.frames.filter(isSettings).length === 4);
  peer.socket.write(settingsAck());
  await settled('its acknowledgement', () => upstream.frames.filter(isAck).length === 3);
  expect([got(1).bytes.length, got(3).bytes.length]).toEqual([10, 10]);
  expect([lab.active, lab.budget.calls, lab.budget.bytes]).toEqual([0, 0, 0]);
  peer.socket.destroy();
});

test('calls that were held wait until buildkitd takes one more at a time, and in their order', async () => {
  const { calls, peer, upstream, agree } = await openEnds();
  peer.socket.write(Buffer.concat([1, 3, 5, 7, 9].map((stream) => call(stream))));
  await settled('the calls', () => calls.length === 5);
  await agree([settingIds.maxConcurrentStreams, 2]);
  for (const at of [4, 3, 2, 1, 0]) calls[at]?.open();
  const begun = (): number => upstream.frames.filter((one) => one[3] === frameTypes.headers).length;
  await settled('two of them', () => begun() === 2);
  peer.socket.write(rstStream(5, errorCodes.cancel));
  await settled('the one that has gone', () => calls[2]?.isOver === true);
  expect(begun()).toBe(2);
  const end = (stream: number): void =>
    upstream.say(
      frame(frameTypes.headers, frameFlags.endHeaders | frameFlags.endStream, stream, Buffer.from([0x88])),
      rstStream(stream, errorCodes.noError),
    );
  end(1);
  await settled('the next', () => begun() === 3);
  expect(calls.map(({ isOpen }) => isOpen)).toEqual([false, true, false, true, true]);
  await agree([settingIds.maxConcurrentStreams, 3]);
  await settled('the last', () => begun() === 4);
  peer.socket.destroy();
});

test('changes of frames’ and tables’ sizes are not the client’s matter, and change nothing of what is sent', async () => {
  const { calls, peer, upstream, agree, got } = await openEnds();
  const decoder = new HpackDecoder({ tableSize: 4096, maxListBytes: 1e6 });
  for (const [at, table] of [0, 65_536, 100].entries()) {
    await agree([settingIds.headerTableSize, table], [settingIds.maxFrameSize, 2 ** 24 - 1 - at]);
    expect(peer.frames.filter(isSettings).at(-1)).toEqual(settingsFrame([]));
    const stream = 2 * at + 1;
    peer.socket.write(Buffer.concat([call(stream), ...dataFrames(stream, bytes.subarray(0, 20_000), true)]));
    await settled('the call', () => calls.length === at + 1);
    calls[at]?.open();
    await settled('it all', () => got(stream).ended);
    const [head] = upstream.frames.filter((one) => one[3] === frameTypes.headers && one.readUInt32BE(5) === stream);
    expect(decoder.decode(head?.subarray(9) ?? Buffer.alloc(0))).toContainEqual([':path', '/a.B/C']);
  }
  peer.socket.destroy();
});

test('nghttp2 as buildkitd finds nothing wrong, whatever it changes while calls are held and open', async () => {
  const { calls, route } = holder();
  const got: Promise<Buffer>[] = [];
  const collect = async (stream: ServerHttp2Stream): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
    return Buffer.concat(chunks);
  };
  const lab = await openLab({ route, serve: (stream) => void got.push(collect(stream)) });
  const client = lab.client();
  const ask = (): Promise<object> => {
    const asked = request(client);
    asked.end(bytes);
    return endOf(asked);
  };
  let change = 0;
  const changes = [
    { initialWindowSize: 100, headerTableSize: 0 },
    { initialWindowSize: 40_000, maxFrameSize: 2 ** 20, maxConcurrentStreams: 2 },
    { initialWindowSize: 1, headerTableSize: 8192 },
    { initialWindowSize: 2 ** 20, maxConcurrentStreams: 1 },
    { initialWindowSize: 0, maxFrameSize: 16_384 },
    { initialWindowSize: 30_000, headerTableSize: 100, maxConcurrentStreams: 100 },
  ];
  const ends = Array.from({ length: 6 }, ask);
  await settled('the calls', () => calls.length === 6);
  for (const one of calls) {
    const [session] = lab.sessions;
    if (!session) throw new Error('no session');
    const next = changes[change++] ?? {};
    // A call that crosses a smaller number of them on its way is refused, and rightly so.
    if ('maxConcurrentStreams' in next)
      await settled('those on their way', () => got.length === calls.filter(({ isOpen }) => isOpen).length);
    const agreed = new Promise<void>((resolve) => session.settings(next, () => resolve()));
    if ('maxConcurrentStreams' in next) await agreed;
    one.open();
  }
  expect(await Promise.all(ends)).toEqual(Array(6).fill({ code: '0', message: '' }));
  for (const sent of await Promise.all(got)) expect(sent.equals(bytes)).toBe(true);
});

test('a client that goes with settings unacknowledged leaves no timer that would keep its connection', async () => {
  const { peer, upstream, change } = await openEnds();
  await change(initialWindow(1000));
  const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  peer.socket.destroy();
  await settled('the end of its connection', () => upstream.isLeft);
  await sleep(100);
  expect(timers()).toBeLessThanOrEqual(before);
});
