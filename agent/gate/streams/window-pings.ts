import { frameHeaderBytes, frameTypes, newFrame, pingAck } from '../wire/frames.ts';

/** The eight bytes of a PING by which grpc-go measures the way (internal/transport/bdp_estimator.go, bdpPing). */
const payload = Buffer.from([2, 4, 16, 16, 9, 14, 7, 7]);
/**
 * Bytes of DATA below which a measurement changes nothing: grpc-go makes its windows larger when one has 0.66 of what they are (`beta`), and
 * they are never under 65 535.
 */
const least = 43_253;
/** How long a measurement may take that comes to nothing, in milliseconds. */
const limitMs = 1_000;

/** What becomes of a PING that was held. */
export interface WindowPingsEnds {
  /** Passes it on. */
  pass(ping: Buffer): void;
  /** Answers it here. */
  answer(ack: Buffer): void;
}

/**
 * The PINGs of one end by which grpc-go finds how large its windows should be. It sends one with the first DATA that comes, and the next
 * when that is acknowledged: nearly every message of a small build would have one, and an answer to it. So each is held: it goes on
 * once it measures enough to matter, and is answered by the gate when it does not come to that. Until then its sender
 * measures on, and sends no other.
 */
export class WindowPings {
  readonly #ends: WindowPingsEnds;
  #timer: NodeJS.Timeout | undefined;
  #carried = 0;

  constructor(ends: WindowPingsEnds) {
    this.#ends = ends;
  }

  /** A PING has come. @returns whether it is held; not when it is another one than these, or the second */
  hold(frame: Buffer): boolean {
    if (this.#timer || frame[frameHeaderBytes] !== payload[0] || payload.compare(frame, frameHeaderBytes) !== 0)
      return false;
    this.#carried = 0;
    this.#timer = setTimeout(() => this.release(), limitMs);
    return true;
  }

  /** DATA goes to who sends the PINGs. */
  carried(bytes: number): void {
    if (!this.#timer) return;
    this.#carried += bytes;
    if (this.#carried < least) return;
    this.#forget();
    this.#ends.pass(ping);
  }

  /** Answers the PING that is held, if there is one. */
  release(): void {
    if (!this.#timer) return;
    this.#forget();
    this.#ends.answer(ack);
  }

  #forget(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

const ping = newFrame(frameTypes.ping, 0, 0, payload.length);
payload.copy(ping, frameHeaderBytes);
const ack = pingAck(payload);
