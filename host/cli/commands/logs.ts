import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { setTimeout as sleepFor } from 'node:timers/promises';
import { hasErrno } from '../../../common/errors.ts';
import type { Scope } from '../../../common/scope.ts';
import { isUp, list } from '../../machine/machines.ts';
import { usageError } from '../exit.ts';
import { plainText } from '../progress/text.ts';

/** How often a followed console is looked at (ms). */
const pollMs = 150;
const chunkBytes = 64 * 1024;

/** `buildvisor logs SCOPE`: the guest's console, of the VM that is up or of the last one. */
export async function showLogs(scope: Scope, flags: { follow?: boolean; lines?: number }): Promise<void> {
  const path = consoleOf(scope);
  const console = new ConsoleTail(path);
  try {
    const text = console.readAll();
    const lines = text.split('\n');
    const wanted =
      flags.lines === undefined ? text : lines.slice(-flags.lines - (lines.at(-1) === '' ? 1 : 0)).join('\n');
    print(wanted);
    while (flags.follow) {
      // Looked at before reading, so that nothing written until then is missed.
      const live = isUp(scope);
      for (let more = console.readMore(); more !== ''; more = console.readMore()) print(more);
      if (!live) break;
      await sleepFor(pollMs);
    }
  } finally {
    console.close();
  }
}

function consoleOf(scope: Scope): string {
  const state = list().find((known) => known.scope === scope)?.state;
  if (state && statSync(state.consoleLog, { throwIfNoEntry: false })) return state.consoleLog;
  throw usageError(`${scope} has no console log: it has not had a VM yet`, `\`buildvisor up ${scope}\` boots it.`);
}

/** A guest must not move the reader's cursor or set the terminal's title. */
function print(text: string): void {
  process.stdout.write(
    process.stdout.isTTY
      ? text
          .split('\n')
          .map((line) => plainText(line, true))
          .join('\n')
      : text,
  );
}

/** Reads a growing file, also when it is replaced by a new one. */
class ConsoleTail {
  readonly #path: string;
  readonly #decoder = new StringDecoder('utf8');
  readonly #buffer = Buffer.alloc(chunkBytes);
  #fd: number;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'r');
  }

  /** All there is, the part rotated away first. */
  readAll(): string {
    let text = '';
    try {
      const rotated = new ConsoleTail(`${this.#path}.1`);
      for (let more = rotated.readMore(); more !== ''; more = rotated.readMore()) text += more;
      rotated.close();
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
    for (let more = this.readMore(); more !== ''; more = this.readMore()) text += more;
    return text;
  }

  /** What has come since the last call; empty when nothing has. */
  readMore(): string {
    const bytes = readSync(this.#fd, this.#buffer, 0, chunkBytes, null);
    if (bytes > 0) return this.#decoder.write(this.#buffer.subarray(0, bytes)).replaceAll('\r', '');
    const now = statSync(this.#path, { throwIfNoEntry: false });
    if (!now || now.ino === fstatSync(this.#fd).ino) return '';
    closeSync(this.#fd);
    this.#fd = openSync(this.#path, 'r');
    return this.readMore();
  }

  close(): void {
    closeSync(this.#fd);
  }
}
