import { constants } from 'node:os';
import type { ShellExit } from '../../common/generated/types/buildvisor/v1/ShellExit.ts';
import type { ShellOutput } from '../../common/generated/types/buildvisor/v1/ShellOutput.ts';
import type { Send } from './calls.ts';

/** What to run for a person. */
export interface ShellCommand {
  file: string;
  args: string[];
  tty: boolean;
  columns: number;
  rows: number;
  /** All of its environment. */
  env: Record<string, string>;
}

/** A command that runs for a person. */
export interface ShellProcess {
  /** How it ended; all output has been sent by then. Never rejects. */
  readonly exited: Promise<ShellExit>;
  /** Resolves when more may be written. */
  write(data: Buffer): Promise<void>;
  endInput(): void;
  resize(columns: number, rows: number): void;
  /** The person has gone: ends it and what it started. */
  hangUp(): void;
}

/** Starts a command whose output goes to `send`. A program that is not there exits with 127, as in a shell. */
export type OpenShell = (command: ShellCommand, send: Send<ShellOutput>) => Promise<ShellProcess>;

/** An exit as the protocol tells it; a signal's code is 128 and its number, as in a shell. */
export function toExit(code: number | null, signal: NodeJS.Signals | number | null | undefined): ShellExit {
  if (!signal) return { code: code ?? 0, signal: '' };
  const [name, number] = Object.entries(constants.signals).find((entry) => entry.includes(signal)) ?? ['', 0];
  return { code: 128 + number, signal: name };
}

/** What a shell exits with for a program that it cannot find, and one that it cannot run. */
export function toSpawnExit(errno: string | undefined): ShellExit {
  return { code: errno === 'ENOENT' ? 127 : 126, signal: '' };
}
