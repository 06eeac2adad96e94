import { expect, test } from 'vitest';
import { HpackDecoder } from '../../../agent/gate/hpack/index.ts';
import { frameTypes } from '../../../agent/gate/wire/frames.ts';
import { openLab, settled } from './lab.ts';
import { call, holder, Peer } from './peers.ts';

test('one client fills the room for held calls: others’ calls are held all the same, and it is told what to do', async () => {
  const { calls, route } = holder();
  const lab = await openLab({ route, limits: { calls: 20, bytes: 1_000_000 } });
  const greedy = new Peer(lab);
  greedy.socket.write(Buffer.concat(Array.from({ length: 30 }, (_, index) => call(2 * index + 1))));
  await settled('its calls', () => calls.length === 30);
  const asked = calls.splice(0);
  expect(asked.filter(({ isOver }) => !isOver)).toHaveLength(18);

  const other = new Peer(lab);
  const send = (...streams: number[]): boolean =>
    other.socket.write(Buffer.concat(streams.map((stream) => call(stream))));
  send(1, 3, 5);
  await settled('the other client’s calls', () => calls.length === 3);
  expect(calls.map(({ isOver }) => isOver)).toEqual([false, false, false]);
  expect(lab.budget.calls).toBe(20);
  // The newest one that was held.
  await settled('the refusal', () => asked[17]?.isOver === true);
  expect(asked.slice(0, 17).map(({ isOver }) => isOver)).not.toContain(true);
  await settled('its words', () => refusalOf(greedy, 35) !== undefined);
  expect(refusalOf(greedy, 35)).toMatchObject({
    'grpc-status': '8',
    'grpc-message': expect.stringContaining('start fewer builds at once'),
  });

  // Until both have the same; then it is refused itself.
  send(...Array.from({ length: 10 }, (_, index) => 2 * index + 7));
  await settled('more of them', () => calls.length === 13);
  expect(calls.map(({ isOver }) => isOver)).toEqual([...Array(10).fill(false), true, true, true]);
  await settled('the refusals', () => asked.filter(({ isOver }) => !isOver).length === 10);
  greedy.socket.destroy();
  other.socket.destroy();
  await settled('the end', () => lab.budget.calls === 0);
  expect(lab.budget.bytes).toBe(0);
});

/** The trailers that a call was refused with. */
function refusalOf(peer: Peer, stream: number): Record<string, string> | undefined {
  const decoder = new HpackDecoder({ tableSize: 4096, maxListBytes: 1e6 });
  for (const frame of peer.frames) {
    if (frame[3] !== frameTypes.headers) continue;
    const fields = decoder.decode(frame.subarray(9));
    if (frame.readUInt32BE(5) === stream) return Object.fromEntries(fields);
  }
  return undefined;
}
