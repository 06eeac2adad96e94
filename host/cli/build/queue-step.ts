import type { BuildEvent } from '../../client/types.ts';
import type { Display } from './display.ts';

/** A build's place in the queue. */
export type Queued = NonNullable<BuildEvent['queued']>;

const digest = 'buildvisor:queue';
/** Milliseconds between two lines on the same build: more and more, so that a long queue does not fill a log. */
const gaps = { first: 1000, growth: 1.5, most: 30_000 };

/** The wait in the VM's queue as a step of the build that waits, so that every renderer shows it. */
export class QueueStep {
  readonly #display: Display;
  #started: string | undefined;
  #said = '';
  #saidAtMs = 0;
  #gapMs = gaps.first;

  constructor(display: Display) {
    this.#display = display;
  }

  /** Shows a place; position 0 ends the wait. */
  show(queued: Queued): void {
    if (queued.position === 0) {
      this.end();
      return;
    }
    if (this.#started === undefined) {
      this.#started = new Date().toISOString();
      this.#send(this.#started);
    }
    const text = queueText(queued);
    const now = Date.now();
    if (text === this.#said || now - this.#saidAtMs < (this.#said === '' ? 0 : this.#gapMs)) return;
    if (this.#said !== '') this.#gapMs = Math.min(this.#gapMs * gaps.growth, gaps.most);
    this.#said = text;
    this.#saidAtMs = now;
    const data = Buffer.from(`${text}\n`).toString('base64');
    this.#display.update({ logs: [{ vertex: digest, data, timestamp: new Date(now).toISOString() }] }, 'local');
  }

  /** The wait is over, if there was one. */
  end(): void {
    if (this.#started === undefined) return;
    this.#send(this.#started, new Date().toISOString());
    this.#started = undefined;
    this.#said = '';
  }

  #send(started: string, completed?: string): void {
    const name = '[queue] wait for a turn';
    this.#display.update({ vertexes: [{ digest, name, started, ...(completed && { completed }) }] }, 'local');
  }
}

const reasons: Record<string, string> = { memory: ', memory is short', disk: ', the cache volume is full' };

/** Such as `waiting: 3rd of 12 (4 builds run)`. */
export function queueText({ position, waiting, running, reason }: Queued): string {
  const others = running === 1 ? '1 build runs' : `${running} builds run`;
  return `waiting: ${ordinal(position)} of ${waiting} (${others}${reasons[reason] ?? ''})`;
}

function ordinal(number: number): string {
  const tens = number % 100;
  const ending = tens > 10 && tens < 14 ? 'th' : (['th', 'st', 'nd', 'rd'][number % 10] ?? 'th');
  return `${number}${ending}`;
}
