import type { Call } from '../call.ts';

import type { Greeting } from './greeting.ts';

/**
 * How long a Session is held that no Solve has named yet, in milliseconds: while builds wait, while none does, and where it is
 * one of a crowd; and when one that is held on is greeted, since a client's end of a session is an HTTP/2 server that closes when it
 * hears nothing for 10 s (golang.org/x/net/http2, prefaceTimeout). One that cannot be greeted is let go instead.
 */
const limits = { busy: 5000, free: 1000, crowd: 120_000, greet: 5000 };
/** So many Sessions without a Solve are a bake whose client is still preparing: buildx opens all of them first, and takes a minute for 4000. */
const crowd = 64;

/** Sessions of solves that have ended or were refused which are remembered: a Session call that comes after that waits for nobody. */
const mostEnded = 4096;

interface Session {
  /** Solves that name it and wait. */
  waiting: number;
  /** Solves that name it and were let go. */
  open: number;
  /** Held, with what lets them go in the end. */
  calls: Map<Call, NodeJS.Timeout>;
}

/**
 * Holds the Session calls of builds that wait. buildkitd keeps several goroutines for each, and asks after its health every
 * five seconds.
 */
export class Sessions {
  readonly #sessions = new Map<string, Session>();
  readonly #ended = new Set<string>();
  /** Held, and not named by a Solve. */
  readonly #unnamed = new Set<Call>();
  readonly #greeted = new WeakSet<Call>();
  readonly #isBusy: () => boolean;
  readonly #greeting: Greeting;

  /** @param isBusy whether builds wait */
  constructor(isBusy: () => boolean, greeting: Greeting) {
    this.#isBusy = isBusy;
    this.#greeting = greeting;
  }

  /** A client's Session. */
  arrive(id: string, call: Call): void {
    const session = this.#get(id);
    if (session.open > 0 || (session.waiting === 0 && this.#ended.has(id))) {
      call.open();
      this.#prune(id, session);
      return;
    }
    if (session.waiting > 0) this.#greetLater(session, call);
    else this.#holdUnnamed(session, call);
    call.whenOver(() => {
      clearTimeout(session.calls.get(call));
      session.calls.delete(call);
      this.#unnamed.delete(call);
      this.#prune(id, session);
    });
  }

  /** A solve that uses these sessions waits. */
  wait(ids: readonly string[]): void {
    for (const id of ids) {
      const session = this.#get(id);
      session.waiting++;
      this.#ended.delete(id);
      if (session.waiting > 1) continue;
      for (const call of session.calls.keys()) {
        this.#unnamed.delete(call);
        this.#greetLater(session, call);
      }
    }
  }

  /** A solve that waited may go. */
  release(ids: readonly string[]): void {
    for (const id of ids) {
      const session = this.#get(id);
      session.waiting--;
      session.open++;
      for (const [call, timer] of session.calls) {
        clearTimeout(timer);
        this.#letGo(call);
      }
    }
  }

  /** A solve is over. @param was where it stood */
  end(ids: readonly string[], was: 'waiting' | 'open'): void {
    for (const id of ids) {
      const session = this.#sessions.get(id);
      if (!session) continue;
      session[was]--;
      // Its client ends it now, or has another use for it: buildkitd takes it from here.
      if (session.waiting === 0) for (const call of session.calls.keys()) call.open();
      if (session.waiting === 0 && session.open === 0) this.#remember(id);
      this.#prune(id, session);
    }
  }

  #holdUnnamed({ calls }: Session, call: Call): void {
    const isCrowd = this.#unnamed.size >= crowd;
    this.#unnamed.add(call);
    const limit = isCrowd ? limits.crowd : this.#isBusy() ? limits.busy : limits.free;
    const end = (): void => this.#letGo(call);
    const greet = (): void => {
      if (this.#greet(call)) calls.set(call, setTimeout(end, limit - limits.greet));
      else end();
    };
    calls.set(call, isCrowd ? setTimeout(greet, limits.greet) : setTimeout(end, limit));
  }

  #letGo(call: Call): void {
    this.#unnamed.delete(call);
    call.open();
  }

  #greetLater({ calls }: Session, call: Call): void {
    clearTimeout(calls.get(call));
    const left = limits.greet - (performance.now() - call.arrivedAt);
    const greet = (): void => {
      if (!this.#greet(call)) call.open();
    };
    calls.set(call, setTimeout(greet, Math.max(0, left)));
  }

  #greet(call: Call): boolean {
    if (this.#greeted.has(call)) return true;
    if (!this.#greeting.send(call)) return false;
    this.#greeted.add(call);
    return true;
  }

  #remember(id: string): void {
    this.#ended.delete(id);
    this.#ended.add(id);
    if (this.#ended.size <= mostEnded) return;
    for (const oldest of this.#ended) {
      this.#ended.delete(oldest);
      break;
    }
  }

  #get(id: string): Session {
    const known = this.#sessions.get(id);
    if (known) return known;
    const session: Session = { waiting: 0, open: 0, calls: new Map() };
    this.#sessions.set(id, session);
    return session;
  }

  #prune(id: string, { waiting, open, calls }: Session): void {
    if (waiting <= 0 && open <= 0 && calls.size === 0) this.#sessions.delete(id);
  }
}
