import type { Call } from '../call.ts';

import type { Greeting } from './greeting.ts';

/**
 * How long a Session is held that no Solve has named yet, in milliseconds: while builds wait, while none does, and where it is
 * one of a crowd; and when one that is held on is greeted, since a client's end of a session is an HTTP/2 server that closes when it
 * hears nothing for 10 s (golang.org/x/net/http2, prefaceTimeout), counted from before a busy client has even sent it. One that cannot
 * be greeted at the last of these is let go instead.
 */
const limits = { busy: 5000, free: 1000, crowd: 120_000, greet: [100, 2000, 5000] };
/** So many Sessions without a Solve are a bake whose client is still preparing: buildx opens all of them first, and takes a minute for 4000. */
export const crowd = 64;

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

  /** Sessions that are held and that no Solve has named. */
  get unnamed(): number {
    return this.#unnamed.size;
  }

  /** A client's Session. */
  arrive(id: string, call: Call): void {
    const session = this.#get(id);
    if (session.open > 0) {
      call.open();
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
      this.#prune(id, session);
    }
  }

  #holdUnnamed(session: Session, call: Call): void {
    const isCrowd = this.#unnamed.size >= crowd;
    this.#unnamed.add(call);
    if (isCrowd) this.#greetLater(session, call, limits.crowd);
    else this.#letGoIn(session, call, this.#isBusy() ? limits.busy : limits.free);
  }

  #letGoIn({ calls }: Session, call: Call, ms: number): void {
    calls.set(
      call,
      setTimeout(() => this.#letGo(call), ms),
    );
  }

  #letGo(call: Call): void {
    this.#unnamed.delete(call);
    call.open();
  }

  /** Greets a call that is held on. @param limitMs when it is let go all the same, since it came */
  #greetLater(session: Session, call: Call, limitMs?: number): void {
    const { calls } = session;
    clearTimeout(calls.get(call));
    const waited = performance.now() - call.arrivedAt;
    const [next = waited, ...later] = limits.greet.filter((ms) => ms > waited);
    const greet = (): void => {
      if (!this.#greet(call)) {
        if (later.length > 0) this.#greetLater(session, call, limitMs);
        else this.#letGo(call);
      } else if (limitMs !== undefined) this.#letGoIn(session, call, limitMs - next);
    };
    calls.set(call, setTimeout(greet, next - waited));
  }

  #greet(call: Call): boolean {
    if (this.#greeted.has(call)) return true;
    if (!this.#greeting.send(call)) return false;
    this.#greeted.add(call);
    return true;
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
