import { firstWindow } from '../wire/frames.ts';
import { type Setting, settingIds, settingOf } from '../wire/settings.ts';

/** What buildkitd takes of a connection's streams. */
interface Limits {
  /** SETTINGS_INITIAL_WINDOW_SIZE. */
  window: number;
  /** SETTINGS_MAX_CONCURRENT_STREAMS. */
  streams: number;
}

/**
 * What buildkitd says in its SETTINGS of what it takes. The client acknowledges them (RFC 9113, 6.5.3), and what goes there at that time may be
 * what the client sent before it knew, or what the gate has held. So what is less holds at once, and what is more once it is acknowledged.
 */
export class UpstreamLimits {
  #agreed: Limits = { window: firstWindow, streams: Number.POSITIVE_INFINITY };
  /** Of each SETTINGS whose acknowledgement was not sent, the oldest first. */
  readonly #announced: Limits[] = [];
  /** The least of them all. */
  #now = this.#agreed;
  #unacknowledged = 0;
  #mostWindow = firstWindow;

  /** What a new stream may send. */
  get window(): number {
    return this.#now.window;
  }

  /** Most streams that may be open. */
  get streams(): number {
    return this.#now.streams;
  }

  /** The largest window that the client may have seen. */
  get mostWindow(): number {
    return this.#mostWindow;
  }

  /** SETTINGS of buildkitd have come. */
  announce(settings: readonly Setting[]): void {
    const last = this.#announced.at(-1) ?? this.#agreed;
    const window = settingOf(settings, settingIds.initialWindowSize) ?? last.window;
    const streams = settingOf(settings, settingIds.maxConcurrentStreams) ?? last.streams;
    this.#unacknowledged++;
    this.#announced.push({ window, streams });
    this.#now = { window: Math.min(this.#now.window, window), streams: Math.min(this.#now.streams, streams) };
    this.#mostWindow = Math.max(this.#mostWindow, window);
  }

  /** The client has acknowledged the oldest that it had not. @returns whether there were any */
  acknowledge(): boolean {
    if (this.#unacknowledged === 0) return false;
    this.#unacknowledged--;
    return true;
  }

  /** buildkitd has been sent the acknowledgement of the oldest that it had not. */
  settle(): void {
    const agreed = this.#announced.shift();
    if (!agreed) return;
    this.#agreed = agreed;
    const all = [agreed, ...this.#announced];
    this.#now = {
      window: Math.min(...all.map(({ window }) => window)),
      streams: Math.min(...all.map(({ streams }) => streams)),
    };
  }
}
