import { ByteTail } from '../../common/byte-tail.ts';
import { readFields, writeBytes, writeNumber } from '../../common/protobuf.ts';
import { formatBytes } from '../../common/units.ts';

/** How much of one step's log a journal keeps, in bytes; -1 for all. */
export interface StepLogLimits {
  maxBytes: number;
  maxBytesPerSecond: number;
}

/** The end of a clipped step's log is kept beside its beginning, since it tells what went wrong: so many bytes. */
const tailBytes = 256 * 1024;

/** Fields of StatusResponse and VertexLog (BuildKit's api/services/control/control.proto). */
const fields = {
  vertexes: 1,
  logs: 3,
  vertex: { digest: 1, completed: 6 },
  log: { vertex: 1, time: 2, stream: 3, data: 4 },
};

/** A piece of a step's log. */
interface Piece {
  vertex: string;
  /** A serialised Timestamp. */
  time: Buffer;
  stream: number;
  data: Buffer;
}

/** A step's log so far. */
interface StepLog {
  since: number;
  kept: number;
  /** Bytes that were not passed on, and the end of them. */
  cut: number;
  tail: ByteTail | undefined;
  last: Piece | undefined;
}

/** Gets each piece of log, before anything is cut. */
export type OnLog = (vertex: string, data: Buffer) => void;

/**
 * Clips the logs of a build's steps, generously: each step's first bytes are kept, and its last. What is cut is said in the
 * log itself. The message is only taken apart when there is something to cut.
 */
export class LogClipper {
  readonly #limits: StepLogLimits;
  readonly #now: () => number;
  readonly #steps = new Map<string, StepLog>();
  #cutBytes = 0;

  constructor(limits: StepLogLimits, now: () => number = performance.now.bind(performance)) {
    this.#limits = limits;
    this.#now = now;
  }

  /** Bytes of logs that were left out. */
  get cutBytes(): number {
    return this.#cutBytes;
  }

  /**
   * A serialised StatusResponse, without what is over the limits.
   * @throws RangeError when the bytes are no such message
   */
  pass(message: Buffer, onLog: OnLog = () => undefined): Buffer {
    const parts: (Buffer[] | { number: number; bytes: Buffer })[] = [];
    const completed: string[] = [];
    let cut = false;
    for (const { number, bytes } of readFields(message)) {
      if (bytes === undefined) continue;
      if (number === fields.logs) {
        const piece = readPiece(bytes);
        onLog(piece.vertex, piece.data);
        const shown = this.#clip(piece);
        cut ||= shown !== undefined;
        parts.push(shown ?? { number, bytes });
      } else {
        const digest = number === fields.vertexes ? completedDigest(bytes) : undefined;
        if (digest !== undefined && this.#steps.has(digest)) completed.push(digest);
        parts.push({ number, bytes });
      }
    }
    const rest = completed.flatMap((digest) => this.#end(digest));
    if (!cut && rest.length === 0) return message;
    const whole = parts.flatMap((part) => (Array.isArray(part) ? part : [writeBytes(part.number, part.bytes)]));
    return Buffer.concat([...whole, ...rest]);
  }

  /** What is held back of steps that did not complete, as a StatusResponse; empty when there is nothing. */
  end(): Buffer {
    return Buffer.concat([...this.#steps.keys()].flatMap((digest) => this.#end(digest)));
  }

  /** What is passed on of a piece; undefined for the piece as it is. */
  #clip(piece: Piece): Buffer[] | undefined {
    const log = this.#stepOf(piece.vertex);
    const { maxBytes, maxBytesPerSecond } = this.#limits;
    const bySpeed =
      maxBytesPerSecond < 0
        ? Number.POSITIVE_INFINITY
        : Math.max(1, Math.ceil((this.#now() - log.since) / 1000)) * maxBytesPerSecond;
    const bySize = maxBytes < 0 ? Number.POSITIVE_INFINITY : maxBytes;
    const room = Math.max(0, Math.min(bySize, bySpeed) - log.kept);
    if (piece.data.length <= room) {
      log.kept += piece.data.length;
      if (log.tail === undefined) return undefined;
      // Only of speed: there is room again.
      const notice = this.#notice(log, piece, `${formatBytes(log.cut)} of this step's log are left out here`);
      log.tail = undefined;
      log.cut = 0;
      return [notice, encode(piece)];
    }
    const head = piece.data.subarray(0, room);
    log.kept += head.length;
    const shown = head.length > 0 ? [encode({ ...piece, data: head })] : [];
    if (log.tail === undefined) {
      log.tail = new ByteTail(tailBytes);
      const [limit, key] =
        bySpeed < bySize
          ? [`${formatBytes(maxBytesPerSecond)} a second`, 'max-per-second']
          : [formatBytes(maxBytes), 'max'];
      const left = `what follows is left out here, but for the last ${formatBytes(tailBytes)}`;
      shown.push(notice(piece, `this step's log is over ${limit} ([buildkit.step-log] ${key} in the config): ${left}`));
    }
    log.tail.add(piece.data.subarray(room));
    log.last = { ...piece, time: Buffer.from(piece.time), data: Buffer.alloc(0) };
    log.cut += piece.data.length - room;
    return shown;
  }

  /** Gives what is held back of a step that is over. */
  #end(digest: string): Buffer[] {
    const log = this.#steps.get(digest);
    this.#steps.delete(digest);
    if (log?.tail === undefined || log.last === undefined) return [];
    const data = log.tail.bytes();
    log.cut -= data.length;
    const said =
      log.cut > 0 ? [this.#notice(log, log.last, `${formatBytes(log.cut)} of this step's log are left out here`)] : [];
    return [...said, encode({ ...log.last, data })];
  }

  #notice(log: StepLog, piece: Piece, text: string): Buffer {
    this.#cutBytes += log.cut;
    return notice(piece, text);
  }

  #stepOf(digest: string): StepLog {
    let log = this.#steps.get(digest);
    if (log === undefined) {
      log = { since: this.#now(), kept: 0, cut: 0, tail: undefined, last: undefined };
      this.#steps.set(digest, log);
    }
    return log;
  }
}

function notice(piece: Piece, text: string): Buffer {
  return encode({ ...piece, stream: 2, data: Buffer.from(`\n[buildvisor: ${text}]\n`) });
}

function readPiece(log: Buffer): Piece {
  const piece: Piece = { vertex: '', time: Buffer.alloc(0), stream: 0, data: Buffer.alloc(0) };
  for (const { number, bytes, value } of readFields(log)) {
    if (number === fields.log.vertex) piece.vertex = bytes?.toString() ?? '';
    else if (number === fields.log.time && bytes) piece.time = bytes;
    else if (number === fields.log.stream) piece.stream = value ?? 0;
    else if (number === fields.log.data && bytes) piece.data = bytes;
  }
  return piece;
}

/** The piece as a field of a StatusResponse. */
function encode({ vertex, time, stream, data }: Piece): Buffer {
  const log = Buffer.concat([
    writeBytes(fields.log.vertex, Buffer.from(vertex)),
    writeBytes(fields.log.time, time),
    writeNumber(fields.log.stream, stream),
    writeBytes(fields.log.data, data),
  ]);
  return writeBytes(fields.logs, log);
}

/** The digest of a vertex that has completed. */
function completedDigest(vertex: Buffer): string | undefined {
  let digest = '';
  let completed = false;
  for (const { number, bytes } of readFields(vertex)) {
    if (number === fields.vertex.digest) digest = bytes?.toString() ?? '';
    else if (number === fields.vertex.completed) completed = true;
  }
  return completed ? digest : undefined;
}
