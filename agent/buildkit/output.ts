import type { Readable } from 'node:stream';
import type { Logger } from '../log.ts';

/** What is kept of the end of buildkitd's output: lines, and characters a line. */
const kept = { lines: 20, characters: 2000 };

/** buildkitd's main.go ends with `buildkitd: ` and the error, Go's runtime with the two others; a stack comes after them all. */
const reasonLine = /^(?:buildkitd: (?=.)|(?=panic: |fatal error: ))(?<reason>.+)/;

/** Reads buildkitd's log (`--log-format json`), passes it on to ours and keeps its end for when the daemon dies. */
export class DaemonOutput {
  readonly #log: Logger;
  readonly #tail: string[] = [];
  #rest = '';
  #reason: string | undefined;

  constructor(stream: Readable, log: Logger) {
    this.#log = log;
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => this.#add(text));
    stream.on('error', (error) => log.debug({ error: error.message }, "buildkitd's output ended"));
  }

  /** The last lines, the oldest first. */
  tail(): string[] {
    return this.#rest === '' ? this.#tail : [...this.#tail, this.#rest];
  }

  /** Why it ended, as it says itself, or its last line. The stack that follows the reason can be longer than what is kept. */
  reason(): string | undefined {
    return this.#reason ?? this.tail().at(-1);
  }

  #add(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = (lines.pop() ?? '').slice(-kept.characters);
    for (const line of lines) this.#addLine(line.slice(0, kept.characters));
  }

  #addLine(line: string): void {
    if (line === '') return;
    const entry = parseEntry(line);
    if (entry === undefined) this.#reason = reasonLine.exec(line)?.groups?.reason ?? this.#reason;
    this.#tail.push(entry?.message ?? line);
    if (this.#tail.length > kept.lines) this.#tail.shift();
    const serious = entry === undefined || ['warning', 'error', 'fatal', 'panic'].includes(entry.level);
    this.#log[serious ? 'warn' : 'debug']({ from: 'buildkitd' }, entry?.message ?? line);
  }
}

/** A line of logrus' JSON formatter; `undefined` for anything else, such as a Go panic. */
function parseEntry(line: string): { level: string; message: string } | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const entry: Record<string, unknown> = JSON.parse(line);
    const { level, msg, error } = entry;
    if (typeof level !== 'string' || typeof msg !== 'string') return undefined;
    return { level, message: typeof error === 'string' ? `${msg}: ${error}` : msg };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
