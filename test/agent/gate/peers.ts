import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Call, CallEnd, CallTap } from '../../../agent/gate/call.ts';
import { FrameReader } from '../../../agent/gate/wire/frame-reader.ts';
import { frameTypes, preface } from '../../../agent/gate/wire/frames.ts';
import { settingsAck, settingsFrame } from '../../../agent/gate/wire/settings.ts';
import { callHeaders, headers } from '../../../soak/fuzz/wire.ts';
import type { Lab } from './lab.ts';

/** The frames of what was sent, one after the other; the last one may be cut off. */
export function framesIn(bytes: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    found.push(bytes.subarray(at, end));
    at = end;
  }
  return found;
}

/** Somebody who writes frames as they please. */
export class Peer {
  readonly socket: Socket;
  #chunks: Buffer[] = [];

  constructor(lab: Lab) {
    this.socket = connect(lab.socket);
    this.socket.on('error', () => undefined);
    this.socket.on('data', (chunk: Buffer) => this.#chunks.push(chunk));
    this.socket.write(Buffer.concat([preface, settingsFrame([])]));
  }

  /** Bytes that have come. */
  get bytes(): number {
    return this.#chunks.reduce((bytes, chunk) => bytes + chunk.length, 0);
  }

  /** Every frame that has come. */
  get frames(): Buffer[] {
    const bytes = Buffer.concat(this.#chunks);
    this.#chunks = [bytes];
    return framesIn(bytes);
  }

  has(frame: Buffer): boolean {
    return this.frames.some((found) => found.equals(frame));
  }

  /** Code of the last frame when that is GOAWAY. */
  get goneBy(): number | undefined {
    const last = this.frames.at(-1);
    return last?.[3] === frameTypes.goAway ? last.readUInt32BE(13) : undefined;
  }
}

/** A buildkitd that says what a test has it say, and acknowledges every SETTINGS. */
export class FakeUpstream {
  readonly #dir = mkdtempSync(join(tmpdir(), 'bv-up-'));
  readonly path = join(this.#dir, 'bk.sock');
  readonly frames: Buffer[] = [];
  readonly #server: Server;
  #socket: Socket | undefined;

  constructor(first: Buffer) {
    this.#server = createServer((socket) => {
      this.#socket = socket;
      socket.on('error', () => undefined);
      socket.write(first);
      let skip = preface.length;
      let rest: Buffer = Buffer.alloc(0);
      const reader = new FrameReader((frame) => {
        this.frames.push(Buffer.from(frame));
        if (frame[3] === frameTypes.settings && frame[4] === 0) socket.write(settingsAck());
      });
      socket.on('data', (chunk: Buffer) => {
        const from = Math.min(skip, chunk.length);
        skip -= from;
        rest = Buffer.concat([rest, chunk.subarray(from)]);
        rest = rest.subarray(reader.push(rest));
      });
    }).listen(this.path);
  }

  say(...frames: Buffer[]): void {
    this.#socket?.write(Buffer.concat(frames));
  }

  /** Whether the gate has ended its connection. */
  get isLeft(): boolean {
    return this.#socket?.closed ?? false;
  }

  close(): void {
    this.#server.close();
    this.#socket?.destroy();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

/** A route that holds all calls. */
export function holder(): { calls: Call[]; ends: CallEnd[]; route: (call: Call) => CallTap } {
  const calls: Call[] = [];
  const ends: CallEnd[] = [];
  const route = (call: Call): CallTap => {
    calls.push(call);
    return { ended: (end) => void ends.push(end) };
  };
  return { calls, ends, route };
}

/** A call that goes on after its headers. */
export const call = (stream: number, more?: Buffer): Buffer => headers(stream, callHeaders('/a.B/C', more));
