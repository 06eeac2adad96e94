import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Lane } from '../../../../agent/gate/streams/lane.ts';
import { firstWindow, frameTypes, maxPayload, maxWindow, newFrame } from '../../../../agent/gate/wire/frames.ts';

/** A DATA frame of a stream, whose bytes count on. */
function dataFrame(stream: number, from: number, length: number): Buffer {
  const frame = newFrame(frameTypes.data, 0, stream, length);
  for (let at = 0; at < length; at++) frame[9 + at] = (from + at) % 251;
  return frame;
}

/** Two ends that keep to RFC 9113's windows, and a lane between them. */
class Ends {
  /** What the sender may still send, by what it was told. */
  senderWindow = firstWindow;
  /** What the receiver has room for, by what it has told. */
  receiverWindow = firstWindow;
  /** Bytes that came and were not read, in all. */
  unread = 0;
  readonly sent = new Map<number, number>();
  readonly got = new Map<number, number>();
  readonly held = new Map<number, Buffer[]>();
  readonly lane = new Lane({
    sender: { write: (frame) => this.#credit(frame) },
    receiver: { write: (frame) => this.#receive(frame) },
  });

  /** Sends as much of `length` as the window has room for; it goes on, or is kept. */
  send(stream: number, length: number, keep: boolean): void {
    const flow = Math.min(length, this.senderWindow, maxPayload);
    const from = this.sent.get(stream) ?? 0;
    this.sent.set(stream, from + flow);
    this.senderWindow -= flow;
    const frame = dataFrame(stream, from, flow);
    this.lane.take(flow);
    const kept = this.held.get(stream);
    if (keep || kept) {
      this.lane.giveBack(flow);
      this.held.set(stream, [...(kept ?? []), frame]);
    } else this.lane.pass(stream, frame);
  }

  release(stream: number): void {
    for (const frame of this.held.get(stream) ?? []) this.lane.passOwed(stream, frame);
    this.held.delete(stream);
  }

  /** Resets a stream; what is on its way of it no longer counts. */
  reset(stream: number): void {
    this.held.delete(stream);
    this.lane.drop(stream);
    this.sent.set(stream, this.got.get(stream) ?? 0);
  }

  read(bytes: number): void {
    const read = Math.min(bytes, this.unread);
    if (read === 0) return;
    this.unread -= read;
    this.receiverWindow += read;
    this.lane.grow(read);
  }

  #credit(frame: Buffer): void {
    expect([frame[3], frame.readUInt32BE(5)]).toEqual([frameTypes.windowUpdate, 0]);
    this.senderWindow += frame.readUInt32BE(9);
    expect(this.senderWindow).toBeLessThanOrEqual(firstWindow);
  }

  #receive(frame: Buffer): void {
    const stream = frame.readUInt32BE(5);
    const content = frame.subarray(9);
    expect(content.length).toBe(frame.readUIntBE(0, 3));
    this.receiverWindow -= content.length;
    expect(this.receiverWindow).toBeGreaterThanOrEqual(0);
    this.unread += content.length;
    const from = this.got.get(stream) ?? 0;
    expect(content.equals(dataFrame(stream, from, content.length).subarray(9))).toBe(true);
    this.got.set(stream, from + content.length);
  }
}

const aStep = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      send: fc.constantFrom(1, 3, 5, 7),
      length: fc.oneof(fc.nat(200), fc.nat(maxPayload)),
      keep: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ release: fc.constantFrom(1, 3, 5, 7) }) },
  { weight: 1, arbitrary: fc.record({ reset: fc.constantFrom(1, 3, 5, 7) }) },
  { weight: 3, arbitrary: fc.record({ read: fc.nat(2 * maxPayload) }) },
  { weight: 2, arbitrary: fc.constant({ tick: true }) },
);

test('no window is ever overrun or lost, whatever is held, let go, reset and read', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(aStep, { minLength: 20, maxLength: 200 }), async (steps) => {
      const ends = new Ends();
      for (const step of steps) {
        if ('send' in step) ends.send(step.send, step.length, step.keep);
        else if ('release' in step) ends.release(step.release);
        else if ('reset' in step) ends.reset(step.reset);
        else if ('read' in step) ends.read(step.read);
        else await Promise.resolve();
        expect(ends.lane.credit).toBe(ends.receiverWindow);
        expect(ends.lane.senderCredit).toBeGreaterThanOrEqual(ends.senderWindow);
      }
      for (const stream of [1, 3, 5, 7]) ends.release(stream);
      while (ends.unread > 0) ends.read(ends.unread);
      await Promise.resolve();
      expect(ends.got).toEqual(new Map([...ends.sent].filter(([stream]) => ends.got.has(stream))));
      expect([...ends.sent.values()].reduce((sum, bytes) => sum + bytes, 0)).toBe(
        [...ends.got.values()].reduce((sum, bytes) => sum + bytes, 0),
      );
      expect([ends.senderWindow, ends.receiverWindow, ends.lane.waitingBytes]).toEqual([firstWindow, firstWindow, 0]);
    }),
    { numRuns: 300 },
  );
});

test('a sender that breaks its window is told so', () => {
  const lane = new Lane({ sender: { write: () => undefined }, receiver: { write: () => undefined } });
  lane.take(firstWindow);
  expect(() => lane.take(1)).toThrow(expect.objectContaining({ code: 3 }));
});

test('a receiver that gives more than a window can hold is told so', () => {
  const lane = new Lane({ sender: { write: () => undefined }, receiver: { write: () => undefined } });
  lane.grow(maxWindow - firstWindow);
  expect(() => lane.grow(1)).toThrow(expect.objectContaining({ code: 3 }));
});

test('what follows the DATA of a stream does not overtake it, and of another stream does', () => {
  const written: string[] = [];
  const lane = new Lane({
    sender: { write: () => undefined },
    receiver: { write: (frame) => written.push(`${frame[3]} of ${frame.readUInt32BE(5)}`) },
  });
  for (let sent = 0; sent < firstWindow; sent += 16_383) lane.passOwed(1, dataFrame(1, 0, 16_383));
  lane.follow(1, newFrame(frameTypes.headers, 1, 1, 0));
  lane.follow(3, newFrame(frameTypes.headers, 1, 3, 0));
  expect(written.slice(4)).toEqual(['0 of 1', '1 of 3']);
  lane.grow(100_000);
  expect(written.slice(6)).toEqual(['0 of 1', '1 of 1']);
});
