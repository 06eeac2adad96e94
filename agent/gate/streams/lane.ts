import {
  errorCodes,
  firstWindow,
  frameFlags,
  frameHeaderBytes,
  maxWindow,
  newFrame,
  WireError,
  windowUpdate,
} from '../wire/frames.ts';
import type { Outlet } from '../wire/outlet.ts';
import { flowOf } from './data.ts';

/** Where a {@link Lane} writes: DATA to its receiver, credit to its sender. */
export interface LaneEnds {
  receiver: Pick<Outlet, 'write'>;
  sender: Pick<Outlet, 'write'>;
}

/** Memory that a frame that waits takes beside its bytes. */
const waitingOverhead = 128;

/** A frame that waits, and what of the connection's window it takes. */
interface Waiting {
  stream: number;
  frame: Buffer;
  flow: number;
  then?: (() => void) | undefined;
}

/**
 * One direction's DATA within the connection's window (RFC 9113, 6.9). Credit that the receiver gives is passed to the sender, so
 * that windows are those of the two ends. What the gate takes for itself (it holds calls, and reads some alone) it gives back at
 * once, so that it takes nothing from the other calls; when held bytes go on, their credit has been given twice, and is owed:
 *
 *     sender's credit = receiver's credit + owed − waiting
 *
 * What does not fit the receiver's window waits in order, and is no more than was owed.
 */
export class Lane {
  readonly #receiver: LaneEnds['receiver'];
  readonly #sender: LaneEnds['sender'];
  #waiting: Waiting[] = [];
  /** Frames that wait, of each stream that has some. */
  readonly #waitingOf = new Map<number, number>();
  #waitingBytes = 0;
  /** What the receiver still takes. */
  #credit = firstWindow;
  /** What the sender may still send. */
  #senderCredit = firstWindow;
  #owed = 0;
  #refund = 0;
  #scheduled = false;

  constructor({ receiver, sender }: LaneEnds) {
    this.#receiver = receiver;
    this.#sender = sender;
  }

  /** What the receiver still takes, in bytes; also negative when the sender has broken its window. */
  get credit(): number {
    return this.#credit;
  }

  /** What the sender may still send, in bytes, once what is given back has gone out. */
  get senderCredit(): number {
    return this.#senderCredit;
  }

  /** Memory of frames that wait for the receiver's credit, in bytes. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** DATA has come. Throws the WireError of a sender that has no credit for it. */
  take(flow: number): void {
    this.#senderCredit -= flow;
    if (this.#senderCredit < 0)
      throw new WireError(errorCodes.flowControlError, 'more DATA than the connection has a window for');
  }

  /** Gives the sender back what was taken and goes no further, or not yet. */
  giveBack(flow: number): void {
    if (flow === 0) return;
    this.#senderCredit += flow;
    this.#refund += flow;
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#sender.write(windowUpdate(0, this.#refund));
      this.#refund = 0;
    });
  }

  /** Sends DATA whose sender's credit is still taken. What has to wait is copied. */
  pass(stream: number, frame: Buffer): void {
    const flow = flowOf(frame);
    if (this.#waiting.length === 0 && flow <= this.#credit) {
      this.#credit -= flow;
      this.#receiver.write(frame);
    } else this.#wait(stream, Buffer.from(frame), flow);
  }

  /** Sends DATA whose credit was given back before, or that the gate made itself. */
  passOwed(stream: number, frame: Buffer): void {
    this.#owed += flowOf(frame);
    this.pass(stream, frame);
  }

  /** Sends a frame that takes no credit, after the stream's DATA. */
  follow(stream: number, frame: Buffer): void {
    if (this.#waitingOf.has(stream)) this.#wait(stream, frame, 0);
    else this.#receiver.write(frame);
  }

  /** Sends a frame of the connection that takes no credit, after all DATA that waits. @param then called once it is sent, maybe at once */
  followAll(frame: Buffer, then: () => void = () => undefined): void {
    if (this.#waiting.length > 0) this.#wait(0, frame, 0, then);
    else {
      this.#receiver.write(frame);
      then();
    }
  }

  /** Forgets what waits of a stream that was reset. */
  drop(stream: number): void {
    if (!this.#waitingOf.delete(stream)) return;
    let dropped = 0;
    this.#waiting = this.#waiting.filter((waiting) => {
      if (waiting.stream !== stream) return true;
      dropped += waiting.flow;
      this.#waitingBytes -= waiting.frame.length + waitingOverhead;
      return false;
    });
    const settled = Math.min(this.#owed, dropped);
    this.#owed -= settled;
    this.giveBack(dropped - settled);
    this.#drain();
  }

  /** The receiver takes more; the sender hears of it. Throws the WireError of a window that grows too large. */
  grow(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit > maxWindow)
      throw new WireError(errorCodes.flowControlError, `a connection's window is over ${maxWindow} bytes`);
    const settled = Math.min(this.#owed, bytes);
    this.#owed -= settled;
    this.#drain();
    const passed = bytes - settled;
    this.#senderCredit += passed;
    if (passed > 0) this.#sender.write(windowUpdate(0, passed));
  }

  /** The receiver is gone: what waits is dropped, and the sender gets the credit back that it would have had. */
  abandon(): void {
    this.#waiting = [];
    this.#waitingOf.clear();
    this.#waitingBytes = 0;
    this.#owed = 0;
    this.giveBack(Math.max(0, firstWindow - this.#senderCredit));
  }

  #wait(stream: number, frame: Buffer, flow: number, then?: () => void): void {
    this.#waiting.push({ stream, frame, flow, then });
    this.#waitingBytes += frame.length + waitingOverhead;
    this.#waitingOf.set(stream, (this.#waitingOf.get(stream) ?? 0) + 1);
    this.#drain();
  }

  #drain(): void {
    let sent = 0;
    for (const waiting of this.#waiting) {
      if (waiting.flow > this.#credit) {
        this.#sendPart(waiting);
        break;
      }
      this.#send(waiting);
      sent++;
    }
    if (sent > 0) this.#waiting.splice(0, sent);
  }

  #send({ stream, frame, flow, then }: Waiting): void {
    this.#credit -= flow;
    this.#waitingBytes -= frame.length + waitingOverhead;
    const left = (this.#waitingOf.get(stream) ?? 1) - 1;
    if (left === 0) this.#waitingOf.delete(stream);
    else this.#waitingOf.set(stream, left);
    this.#receiver.write(frame);
    // Not in the middle of this.
    if (then) queueMicrotask(then);
  }

  /** A receiver whose whole window is smaller than a frame would wait for ever: it gets as much as it takes. */
  #sendPart(waiting: Waiting): void {
    const { frame } = waiting;
    const part = this.#credit;
    if (part <= 0 || ((frame[4] ?? 0) & frameFlags.padded) !== 0) return;
    const rest = newFrame(frame[3] ?? 0, frame[4] ?? 0, waiting.stream, waiting.flow - part);
    frame.copy(rest, frameHeaderBytes, frameHeaderBytes + part);
    frame.writeUIntBE(part, 0, 3);
    frame[4] = 0;
    this.#receiver.write(frame.subarray(0, frameHeaderBytes + part));
    this.#credit -= part;
    this.#waitingBytes -= part;
    waiting.frame = rest;
    waiting.flow -= part;
  }
}
