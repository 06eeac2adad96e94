import { constants, openSync, readFileSync, writeSync } from 'node:fs';
import { type ConsoleEnd, formatConsoleEnd } from '../../common/console-end.ts';
import type { Platform } from '../sys/platform.ts';

/** Where init's words go. Nothing here throws: a console that cannot be written must not end PID 1. */
export interface Console {
  /** For the agent's own output. */
  readonly fd: number;
  /** One line, with the seconds since power-on before it. */
  say(text: string): void;
  /** The last line. */
  end(end: ConsoleEnd): void;
}

/** The guest's /dev/console, which follows `console=` of the kernel's command line; elsewhere standard output. */
export function openConsole(kind: Platform['kind']): Console {
  const fd = kind === 'guest' ? openDevice() : 1;
  return {
    fd,
    say: (text) => write(fd, `[${upSeconds()}] init: ${text}\n`),
    // A line feed first: the agent or a build may have left half a line.
    end: (end) => write(fd, `\n${formatConsoleEnd(end)}\n`),
  };
}

function openDevice(): number {
  try {
    return openSync('/dev/console', constants.O_WRONLY | constants.O_NOCTTY);
  } catch {
    // Without a console device there is nobody to tell; what the kernel gave us as standard output is the best left.
    return 1;
  }
}

function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  // A pipe that is full answers EAGAIN; it gets a few tries, since waiting for its reader would stop PID 1.
  for (let at = 0, tries = 0; at < bytes.length && tries < 50; tries++) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) return;
      Atomics.wait(pause, 0, 0, 10);
    }
  }
}

const pause = new Int32Array(new SharedArrayBuffer(4));

/** Seconds since the kernel started, as the kernel's own messages count them. */
function upSeconds(): string {
  try {
    return (readFileSync('/proc/uptime', 'utf8').split(' ')[0] ?? '?').padStart(8);
  } catch {
    return '       ?';
  }
}
