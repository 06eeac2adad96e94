import { type ErrorCode, isErrorCode } from './errors.ts';
import { consoleEndMark } from './protocol.ts';

/** Why a machine ended: `OK` when it was asked to, or the code of what went wrong. */
export interface ConsoleEnd {
  code: 'OK' | ErrorCode;
  /** Who or what asked (`idle`, `SIGTERM`, `shutdown`), or what went wrong, in a sentence. */
  reason: string;
}

/** Longer reasons are cut, so that the line stays one a console can carry. */
const maxReason = 2000;

/** The last line of a guest's console, without a line feed. */
export function formatConsoleEnd({ code, reason }: ConsoleEnd): string {
  return `${consoleEndMark} ${JSON.stringify({ code, reason: reason.slice(0, maxReason) })}`;
}

/** What a console line says about the machine's end; undefined for any other line. A serial console's CR is fine. */
export function parseConsoleEnd(line: string): ConsoleEnd | undefined {
  const text = line.trim();
  if (!text.startsWith(`${consoleEndMark} `)) return undefined;
  try {
    const value: unknown = JSON.parse(text.slice(consoleEndMark.length + 1));
    if (typeof value !== 'object' || value === null) return undefined;
    const { code, reason } = value as Record<string, unknown>;
    if (typeof code !== 'string' || typeof reason !== 'string') return undefined;
    return code === 'OK' || isErrorCode(code) ? { code, reason } : { code: 'VM_FAILED', reason };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
