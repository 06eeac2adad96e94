import { formatBytes } from '../../../common/units.ts';
import type { HeaderField } from '../hpack/static-table.ts';
import { fieldBytes } from '../hpack/table.ts';
import { detailsField, type LongField } from './fields.ts';
import { decodeMessage, encodeMessage, fitMessage, shortenMessage } from './message.ts';
import { isSource, shortenDetail } from './shorten-detail.ts';
import { type RpcStatus, readStatus, writeStatus } from './status-message.ts';

/** What a client takes that does not say: grpc-go's default (internal/transport/defaults.go), and the most that is sent to any. */
export const mostListBytes = 16 * 1024 ** 2;

/** What fields are made to fit. */
export interface FitOptions {
  /** What the client takes: its SETTINGS_MAX_HEADER_LIST_SIZE. */
  maxListBytes?: number | undefined;
  /** What is missing in the fields already, as words for the message. */
  missing?: string;
}

/**
 * The fields of a call's end, made short enough for its client. The message stays, and the lines of the file that it is about; what is
 * left out beyond that is said in the message.
 */
export function shortenFields(fields: readonly LongField[], { maxListBytes, missing }: FitOptions = {}): HeaderField[] {
  return new Ending(fields, Math.min(maxListBytes ?? mostListBytes, mostListBytes), missing).fit();
}

/** The same for fields that were read at once. */
export function fitFields(fields: readonly HeaderField[], maxListBytes: number): HeaderField[] {
  if (listBytes(fields) <= maxListBytes) return [...fields];
  const long = fields.map(([name, value]) => ({
    name,
    value: Buffer.from(value, name === detailsField ? 'base64' : 'latin1'),
    missing: 0,
  }));
  return shortenFields(long, { maxListBytes });
}

/** Longest value of a field that is neither the message nor the details, in bytes. */
const mostOther = 64 * 1024;

/** What no gRPC client can do without. */
const needed = new Set([':status', 'content-type', 'grpc-status']);

class Ending {
  readonly #max: number;
  readonly #others: HeaderField[];
  /** Undefined of a block that is not a call's end. */
  readonly #message: string | undefined;
  readonly #status: RpcStatus | undefined;
  /** What was left out, for the message. */
  readonly #words = new Set<string>();

  constructor(fields: readonly LongField[], max: number, missing: string | undefined) {
    this.#max = max;
    if (missing !== undefined) this.#words.add(missing);
    const message = fields.find(({ name }) => name === 'grpc-message');
    const details = fields.find(({ name }) => name === detailsField);
    this.#others = fields
      .filter((field) => field !== message && field !== details)
      .filter(({ name, value, missing }) => name.length + value.length + missing < mostOther)
      .map(({ name, value }) => [name, value.toString('latin1')] as const);
    this.#status = details && this.#shortenStatus(details);
    if (!this.#others.some(([name]) => name === 'grpc-status')) return;
    const whole = message ? decodeMessage(message.value.toString('latin1')) : Buffer.alloc(0);
    this.#message = shortenMessage(whole, message?.missing);
  }

  #shortenStatus({ value, missing }: LongField): RpcStatus {
    const { status, isWhole } = readStatus(value);
    const shorter: RpcStatus = { ...status, details: [] };
    for (const detail of status.details) {
      const short = shortenDetail(detail);
      if (short) shorter.details.push(short);
      else this.#words.add(`a part of ${formatBytes(detail.value.length)} (${detail.type.slice(0, 100)})`);
    }
    if (missing > 0) this.#words.add(`what is past the first ${formatBytes(value.length)} of details`);
    else if (!isWhole) this.#words.add('details that could not be read');
    return shorter;
  }

  /** The fields, with as much as there is room for: files go first, then the largest details, then the message's end. */
  fit(): HeaderField[] {
    let fields = this.#write();
    while (listBytes(fields) > this.#max && this.#dropDetail()) fields = this.#write();
    if (listBytes(fields) <= this.#max) return fields;
    while (listBytes(this.#others) > this.#max && this.#dropOther());
    return this.#writeMessage(this.#max - listBytes(this.#others));
  }

  /** Drops the longest field that gRPC can do without. */
  #dropOther(): boolean {
    const spare = this.#others.filter(([name]) => !needed.has(name)).sort((a, b) => fieldBytes(b) - fieldBytes(a));
    const at = spare[0] ? this.#others.indexOf(spare[0]) : -1;
    if (at >= 0) this.#others.splice(at, 1);
    return at >= 0;
  }

  #dropDetail(): boolean {
    const details = this.#status?.details ?? [];
    const [drop] = [...details].sort(
      (a, b) => Number(isSource(b.type)) - Number(isSource(a.type)) || b.value.length - a.value.length,
    );
    if (drop === undefined) return false;
    const what = isSource(drop.type) ? "the file's lines" : 'details';
    this.#words.add(`${what}, as this client takes ${formatBytes(this.#max)} of headers`);
    details.splice(details.indexOf(drop), 1);
    return true;
  }

  #write(): HeaderField[] {
    const fields = this.#writeMessage(Number.MAX_SAFE_INTEGER);
    if (this.#status) fields.push([detailsField, this.#writeStatus(this.#status)]);
    return fields;
  }

  /** All but the details. @param room what the message may take of a list */
  #writeMessage(room: number): HeaderField[] {
    if (this.#message === undefined) return [...this.#others];
    const text = fitMessage(this.#text(), room - fieldBytes(['grpc-message', '']));
    return [...this.#others, ['grpc-message', encodeMessage(text)]];
  }

  #text(): string {
    const words = this.#words.size === 0 ? '' : ` (buildvisor left out ${[...this.#words].join('; ')})`;
    return `${this.#message ?? ''}${words}`;
  }

  /** In base64 without padding, as grpc-go writes it (internal/transport/http_util.go, encodeBinHeader). */
  #writeStatus(status: RpcStatus): string {
    const bytes = writeStatus({ ...status, message: Buffer.from(this.#text()) });
    return bytes.toString('base64').replace(/=+$/, '');
  }
}

function listBytes(fields: readonly HeaderField[]): number {
  return fields.reduce((sum, field) => sum + fieldBytes(field), 0);
}
