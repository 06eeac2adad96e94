import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { type ConsoleEnd, parseConsoleEnd } from '../../common/console-end.ts';
import { hasErrno } from '../../common/errors.ts';

/** Bytes of the console kept in one file; the one before it is kept as `.1`. */
const maxFileBytes = 1024 * 1024;
/** Lines kept in memory for errors, and characters of each. */
const keptLines = 40;
const maxLine = 1000;

/** Keeps the guest's console in a bounded file and its last lines in memory, and finds the line that says how it ended. */
export class ConsoleLog {
  readonly path: string;
  readonly #limit: number;
  #fd: number;
  #size = 0;
  #partial = '';
  readonly #lines: string[] = [];
  #end: ConsoleEnd | undefined;

  /** Starts a new log; the last VM's is removed. */
  constructor(path: string, limit = maxFileBytes) {
    this.path = path;
    this.#limit = limit;
    rmSync(`${path}.1`, { force: true });
    this.#fd = openSync(path, 'w', 0o600);
  }

  /** Adds what the guest wrote. A disk that is full loses the log, not the VM. */
  write(chunk: Buffer): void {
    this.#remember(chunk);
    if (this.#size + chunk.length > this.#limit) this.#rotate();
    try {
      this.#size += writeSync(this.#fd, chunk);
    } catch (error) {
      if (!hasErrno(error, 'ENOSPC', 'EDQUOT', 'EIO')) throw error;
    }
  }

  /** The last lines, oldest first. */
  tail(lines = keptLines): string[] {
    return [...this.#lines, ...(this.#partial === '' ? [] : [this.#partial])].slice(-lines);
  }

  /** How the guest said it ended; undefined while it has not. */
  get end(): ConsoleEnd | undefined {
    return this.#end ?? parseConsoleEnd(this.#partial);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    closeSync(this.#fd);
    renameSync(this.path, `${this.path}.1`);
    this.#fd = openSync(this.path, 'w', 0o600);
    this.#size = 0;
  }

  #remember(chunk: Buffer): void {
    const [first = '', ...rest] = chunk.toString('utf8').split(/\r*\n/);
    const lines = [this.#partial + first, ...rest];
    this.#partial = (lines.pop() ?? '').slice(0, maxLine);
    for (const line of lines) {
      this.#end = parseConsoleEnd(line) ?? this.#end;
      this.#lines.push(line.slice(0, maxLine));
    }
    this.#lines.splice(0, this.#lines.length - keptLines);
  }
}
