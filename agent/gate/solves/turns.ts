import type { Slots, Ticket } from '../admission/slots.ts';
import type { Call } from '../call.ts';
import type { GrpcStatus } from '../status.ts';

/** How long a build may have no call in flight before it gives its slot up, in milliseconds. */
const quietMs = 50;
/** How long a conversation may be silent before it counts as no call in flight, in milliseconds: somebody sits at a prompt and thinks. */
const silenceMs = 10_000;

/**
 * The turns of a build whose client is its frontend: it needs its slot only while a call of it to the LLBBridge is in flight.
 * A client that lets its build wait for another one of its builds (bake's `contexts = { x = "target:y" }`) does not make any.
 */
export class Turns {
  readonly #slots: Slots;
  readonly #ticket: Ticket;
  readonly #waiting = new Set<Call>();
  readonly #calls = new Set<Call>();
  #inFlight = 0;
  #returned = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(slots: Slots, ticket: Ticket) {
    this.#slots = slots;
    this.#ticket = ticket;
  }

  /** Lets a call go as soon as the build has its slot. @param isLast it hands the result over: what is left is buildkitd's work */
  begin(call: Call, isLast: boolean): void {
    if (call.isOver) return;
    clearTimeout(this.#timer);
    this.#inFlight++;
    this.#calls.add(call);
    if (isLast) this.#returned = true;
    call.whenOver(() => {
      this.#waiting.delete(call);
      this.#calls.delete(call);
      this.#inFlight--;
      this.rest();
    });
    this.#waiting.add(call);
    this.#slots.resume(this.#ticket, () => this.#openAll());
  }

  /**
   * Lets a call go as soon as the build has its slot that lasts for as long as somebody uses it, such as a process in a container.
   * It needs the slot while something is said. It is not held back when it speaks again and there is no slot: the build takes the next one.
   * @returns to be called when something is said, either way
   */
  converse(call: Call): () => void {
    let isSilent = false;
    this.begin(call, false);
    const timer = setTimeout(() => {
      if (!call.isOpen) timer.refresh();
      else if (!isSilent) {
        isSilent = true;
        this.#inFlight--;
        this.rest();
      }
    }, silenceMs);
    call.whenOver(() => {
      clearTimeout(timer);
      // Its end counts once.
      if (isSilent) this.#inFlight++;
      isSilent = false;
    });
    return () => {
      if (call.isOver) return;
      timer.refresh();
      if (!isSilent) return;
      isSilent = false;
      clearTimeout(this.#timer);
      this.#inFlight++;
      this.#slots.resume(this.#ticket, () => this.#openAll());
    };
  }

  /** Nothing may be in flight just now: if so for long, the slot is given up. */
  rest(): void {
    clearTimeout(this.#timer);
    if (this.#inFlight > 0 || this.#returned) return;
    // What has arrived meanwhile, on a busy machine, is read before the slot is given up.
    this.#timer = setTimeout(() => setImmediate(() => this.#park()), quietMs);
  }

  /** Ends all its calls. */
  callOff(status: GrpcStatus): void {
    for (const call of [...this.#calls]) call.answer(status);
  }

  /** The build is over. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#returned = true;
    this.#waiting.clear();
  }

  #park(): void {
    if (this.#inFlight === 0 && !this.#returned) this.#slots.park(this.#ticket);
  }

  #openAll(): void {
    const calls = [...this.#waiting];
    this.#waiting.clear();
    for (const call of calls) call.open();
    // They may all have been called off before it was their turn.
    this.rest();
  }
}
