/** The pipe between init and agent: descriptor 3 of the agent, one JSON object a line, both ways. */
import type { ConsoleEnd } from '../../common/console-end.ts';

/** Number of the pipe's descriptor in the agent. */
export const linkFd = 3;
/** No message is longer, in bytes. */
export const maxMessage = 64 * 1024;

/** What the agent tells init. */
export type AgentMessage =
  /** The machine takes builds. */
  | { type: 'ready' }
  /** A build has passed: should the agent die later, that is no crash loop. */
  | { type: 'worked' }
  /** The answer to `ping`. */
  | { type: 'pong' }
  /** Volumes are closed, the agent is about to exit: switch the machine off. `code` is left out for `OK`. */
  | { type: 'poweroff'; reason: string; code?: ConsoleEnd['code'] };

/** What init tells the agent. */
export type InitMessage =
  /** Drain, close the volumes, then say `poweroff` and exit. */
  | { type: 'stop'; reason: string }
  /** Answer, if you are alive. */
  | { type: 'ping' };

/** A message as it goes over the pipe. */
export function encodeMessage(message: AgentMessage | InitMessage): string {
  return `${JSON.stringify(message)}\n`;
}

/**
 * Cuts a stream into messages. What is not a JSON object with a `type`, or is too long, goes to `onGarbage` (its first 200
 * characters) and the stream goes on at the next line.
 */
export class MessageReader {
  readonly #onMessage: (message: { type: string } & Record<string, unknown>) => void;
  readonly #onGarbage: (text: string) => void;
  #rest = '';
  #skipping = false;

  constructor(
    onMessage: (message: { type: string } & Record<string, unknown>) => void,
    onGarbage: (text: string) => void,
  ) {
    this.#onMessage = onMessage;
    this.#onGarbage = onGarbage;
  }

  /** Takes a piece of the stream, decoded as UTF-8. */
  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!this.#skipping) this.#take(line);
      this.#skipping = false;
    }
    if (this.#rest.length > maxMessage) {
      if (!this.#skipping) this.#onGarbage(this.#rest.slice(0, 200));
      this.#skipping = true;
      this.#rest = '';
    }
  }

  #take(line: string): void {
    const value = parseObject(line);
    if (value !== undefined && typeof value.type === 'string') this.#onMessage({ ...value, type: value.type });
    else this.#onGarbage(line.slice(0, 200));
  }
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
