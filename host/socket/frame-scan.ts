import { clientPreface, frameFlags, frameHeaderBytes, frameTypes } from './frames.ts';

/** What is left out of what a client sends, and what is told about the rest. */
export interface ScanEvents {
  /** A PING; gives whether it was answered, and so is left out. */
  onPing(payload: Buffer): boolean;
}

/**
 * Looks over a client's frames without reading their payloads. Leaves out the client's first acknowledgement of settings, which is of a
 * greeting that the real server does not know of, and the PINGs that were answered.
 */
export class FrameScan {
  /** Streams on which the client has called and not called off. */
  readonly calls = new Set<number>();
  /** The highest stream there was. */
  lastStream = 0;
  /** Whether the acknowledgement has come. */
  acknowledged = false;
  /** Whether what came is no HTTP/2. */
  foreign = false;
  readonly #events: ScanEvents;
  /** The beginning of a frame (or of the preface) whose rest is to come. */
  #held: Buffer = Buffer.alloc(0);
  #prefaceSeen = false;
  /** Bytes of the current frame's payload that are still to come. */
  #payloadLeft = 0;

  constructor(events: ScanEvents) {
    this.#events = events;
  }

  /** Takes bytes of the client's; gives those that go on. */
  push(chunk: Buffer): Buffer[] {
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = Buffer.alloc(0);
    const passed: Buffer[] = [];
    while (bytes.length > 0 && !this.foreign) {
      const taken = this.#take(bytes, passed);
      if (taken === 0) {
        this.#held = bytes;
        break;
      }
      bytes = bytes.subarray(taken);
    }
    return passed;
  }

  /** Bytes that were held back to be looked at; the scan is over. */
  flush(): Buffer {
    const held = this.#held;
    this.#held = Buffer.alloc(0);
    return held;
  }

  /** Takes the preface, a frame's beginning or a part of its payload; gives how many bytes that was, 0 when more must come first. */
  #take(bytes: Buffer, passed: Buffer[]): number {
    if (!this.#prefaceSeen) return this.#takePreface(bytes, passed);
    if (this.#payloadLeft > 0) {
      const length = Math.min(this.#payloadLeft, bytes.length);
      this.#payloadLeft -= length;
      passed.push(bytes.subarray(0, length));
      return length;
    }
    return this.#takeFrame(bytes, passed);
  }

  #takePreface(bytes: Buffer, passed: Buffer[]): number {
    const length = Math.min(bytes.length, clientPreface.length);
    this.foreign = !bytes.subarray(0, length).equals(clientPreface.subarray(0, length));
    if (this.foreign || length < clientPreface.length) return 0;
    this.#prefaceSeen = true;
    passed.push(clientPreface);
    return length;
  }

  #takeFrame(bytes: Buffer, passed: Buffer[]): number {
    if (bytes.length < frameHeaderBytes) return 0;
    const length = bytes.readUIntBE(0, 3);
    const type = bytes.readUInt8(3);
    const isAck = (bytes.readUInt8(4) & frameFlags.ack) !== 0;
    const stream = bytes.readUInt32BE(5) & 0x7fff_ffff;
    const whole = frameHeaderBytes + length;
    if (type === frameTypes.settings && isAck && length === 0 && !this.acknowledged) {
      this.acknowledged = true;
      return whole;
    }
    if (type === frameTypes.ping && !isAck && length === 8) {
      if (bytes.length < whole) return 0;
      if (this.#events.onPing(bytes.subarray(frameHeaderBytes, whole))) return whole;
    }
    if (type === frameTypes.headers) {
      this.calls.add(stream);
      this.lastStream = Math.max(this.lastStream, stream);
    } else if (type === frameTypes.rstStream) this.calls.delete(stream);
    this.#payloadLeft = length;
    passed.push(bytes.subarray(0, frameHeaderBytes));
    return frameHeaderBytes;
  }
}
