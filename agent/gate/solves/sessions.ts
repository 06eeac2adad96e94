import type { Call } from '../call.ts';

import type { Greeting } from './greeting.ts';

/**
 * How long a Session is held that no Solve has named yet, in milliseconds: while builds wait, and while none does; and when one
 * that waits with its build is greeted, since a client's end of a session is an HTTP/2 server that closes when it hears nothing for
 * 10 s (golang.org/x/net/http2, prefaceTimeout). One that cannot be greeted is let go instead.
 */
const limits = { busy: 5000, free: 1000, greet: 5000 };

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
    if (session.open > 0) {
      call.open();
      return;
    }
    if (session.waiting > 0) this.#greetLater(session, call);
    else {
      const limit = this.#isBusy() ? limits.busy : limits.free;
      session.calls.set(
        call,
        setTimeout(() => call.open(), limit),
      );
    }
    call.whenOver(() => {
      clearTimeout(session.calls.get(call));
      session.calls.delete(call);
      this.#prune(id, session);
    });
  }

  /** A solve that uses these sessions waits. */
  wait(ids: readonly string[]): void {
    for (const id of ids) {
      const session = this.#get(id);
      session.waiting++;
      if (session.waiting === 1) for (const call of session.calls.keys()) this.#greetLater(session, call);
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
        call.open();
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

  #greetLater({ calls }: Session, call: Call): void {
    clearTimeout(calls.get(call));
    const left = limits.greet - (performance.now() - call.arrivedAt);
    const greet = (): void => {
      if (!this.#greeting.send(call)) call.open();
    };
    calls.set(call, setTimeout(greet, Math.max(0, left)));
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
