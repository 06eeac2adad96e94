import { ByteTail } from '../../common/byte-tail.ts';
import { FieldReader, readFields, writeBytes, writeNumber } from '../../common/protobuf.ts';
import { formatBytes } from '../../common/units.ts';

/** How much of one step's log a journal keeps, in bytes; -1 for all. */
export interface StepLogLimits {
  maxBytes: number;
  maxBytesPerSecond: number;
}

/** The end of a clipped step's log is kept beside its beginning, since it tells what went wrong: so many bytes. */
const tailBytes = 256 * 1024;

/** Fields of StatusResponse and VertexLog (BuildKit's api/services/control/control.proto). */
const fieldsOf = {
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

/** What else wants to see of a status, each as a part of its bytes, before anything is cut. */
export interface StatusParts {
  /** A piece of a step's log. */
  log?(vertex: string, message: Buffer, start: number, end: number): void;
  /** A serialised Vertex. */
  vertex?(message: Buffer, start: number, end: number): void;
}

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
  pass(message: Buffer, parts: StatusParts = {}): Buffer {
    const fields = new FieldReader(message);
    /** What is passed on instead, once something was cut. */
    let instead: Buffer[] | undefined;
    const completed: string[] = [];
    while (fields.next()) {
      const { number, start, from, to } = fields;
      let cut: Buffer[] | undefined;
      if (number === fieldsOf.logs && start >= 0) cut = this.#takeLog(message, start, to, parts);
      else if (number === fieldsOf.vertexes && start >= 0) {
        parts.vertex?.(message, start, to);
        const digest = this.#steps.size === 0 ? undefined : completedDigest(message.subarray(start, to));
        if (digest !== undefined && this.#steps.has(digest)) completed.push(digest);
      }
      if (cut) instead ??= [message.subarray(0, from)];
      instead?.push(...(cut ?? [message.subarray(from, to)]));
    }
    const rest = completed.flatMap((digest) => this.#end(digest));
    if (!instead && rest.length === 0) return message;
    return Buffer.concat([...(instead ?? [message]), ...rest]);
  }

  /** What is held back of steps that did not complete, as a StatusResponse; empty when there is nothing. */
  end(): Buffer {
    return Buffer.concat([...this.#steps.keys()].flatMap((digest) => this.#end(digest)));
  }

  /** What is passed on of a piece of log; undefined for the piece as it is. */
  #takeLog(message: Buffer, start: number, end: number, parts: StatusParts): Buffer[] | undefined {
    const fields = new FieldReader(message, start, end);
    let vertex = '';
    let data = end;
    let dataEnd = end;
    while (fields.next()) {
      if (fields.start < 0) continue;
      if (fields.number === fieldsOf.log.vertex) vertex = message.toString('utf8', fields.start, fields.to);
      else if (fields.number === fieldsOf.log.data) {
        data = fields.start;
        dataEnd = fields.to;
      }
    }
    parts.log?.(vertex, message, data, dataEnd);
    const log = this.#stepOf(vertex);
    const room = Math.max(0, this.#limitOf(log).bytes - log.kept);
    if (dataEnd - data > room || log.tail !== undefined)
      return this.#clip(readPiece(message.subarray(start, end)), log);
    log.kept += dataEnd - data;
    return undefined;
  }

  /** What a step may have said by now, and whether that is for its speed. */
  #limitOf(log: StepLog): { bytes: number; ofSpeed: boolean } {
    const { maxBytes, maxBytesPerSecond } = this.#limits;
    const bySize = maxBytes < 0 ? Number.POSITIVE_INFINITY : maxBytes;
    if (maxBytesPerSecond < 0) return { bytes: bySize, ofSpeed: false };
    const bySpeed = Math.max(1, Math.ceil((this.#now() - log.since) / 1000)) * maxBytesPerSecond;
    return { bytes: Math.min(bySize, bySpeed), ofSpeed: bySpeed < bySize };
  }

  /** What is passed on of a piece that is too much, or comes after one that was. */
  #clip(piece: Piece, log: StepLog): Buffer[] {
    const { maxBytes, maxBytesPerSecond } = this.#limits;
    const { bytes, ofSpeed } = this.#limitOf(log);
    const room = Math.max(0, bytes - log.kept);
    if (piece.data.length <= room) {
      log.kept += piece.data.length;
      if (log.tail === undefined) return [encode(piece)];
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
      const [limit, key] = ofSpeed
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
    if (number === fieldsOf.log.vertex) piece.vertex = bytes?.toString() ?? '';
    else if (number === fieldsOf.log.time && bytes) piece.time = bytes;
    else if (number === fieldsOf.log.stream) piece.stream = value ?? 0;
    else if (number === fieldsOf.log.data && bytes) piece.data = bytes;
  }
  return piece;
}

/** The piece as a field of a StatusResponse. */
function encode({ vertex, time, stream, data }: Piece): Buffer {
  const log = Buffer.concat([
    writeBytes(fieldsOf.log.vertex, Buffer.from(vertex)),
    writeBytes(fieldsOf.log.time, time),
    writeNumber(fieldsOf.log.stream, stream),
    writeBytes(fieldsOf.log.data, data),
  ]);
  return writeBytes(fieldsOf.logs, log);
}

/** The digest of a vertex that has completed. */
function completedDigest(vertex: Buffer): string | undefined {
  let digest = '';
  let completed = false;
  for (const { number, bytes } of readFields(vertex)) {
    if (number === fieldsOf.vertex.digest) digest = bytes?.toString() ?? '';
    else if (number === fieldsOf.vertex.completed) completed = true;
  }
  return completed ? digest : undefined;
}
