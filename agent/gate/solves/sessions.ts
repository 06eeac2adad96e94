import { keepNewest } from '../../../common/keep-newest.ts';
import type { Call } from '../call.ts';
import type { Greeting } from './greeting.ts';
import { LooseCalls } from './loose-calls.ts';

/**
 * How long a Session is held that no Solve has named yet, in milliseconds: while builds wait, while none does, and where it is
 * one of a crowd; and when one that is held on is greeted, since a client's end of a session is an HTTP/2 server that closes when it
 * hears nothing for 10 s (golang.org/x/net/http2, prefaceTimeout), counted from before a busy client has even sent the call. One that
 * cannot be greeted for so long is let go instead, or as soon as it can be.
 */
const limits = { busy: 5000, free: 1000, crowd: 120_000, greet: 1000, ungreeted: 5000, again: 500 };
/** So many Sessions of one client without a Solve are a bake in preparation: buildx opens all of them first, and takes a minute for 4000. */
export const crowd = 64;
/**
 * How many Sessions may be open at buildkitd that no Solve asks for, of one client and of all; the others go on waiting. Each is a gRPC client there, with 100 KB
 * and more of buffers, and all are begun and ended under one lock (session/manager.go): with some thousands, a build's own session comes too late.
 */
const loose = { client: 32, all: 128, briefMs: 250 };
/** Most calls of one name that go when its build does. Clients make one, and another if that breaks. */
const mostOfName = 4;

/** Sessions of solves that have ended or were refused which are remembered: a Session call that comes after that waits for nobody. */
const mostEnded = 4096;

interface Session {
  /** Solves that name it and wait. */
  waiting: number;
  /** Solves that name it and were let go. */
  open: number;
  /** Held, with what lets them go in the end. */
  calls: Map<Call, NodeJS.Timeout>;
  /** Calls that go, or have gone, because a Solve names it. */
  named: Set<Call>;
}

/**
 * Holds the Session calls of builds that wait. buildkitd keeps several goroutines for each, and asks after its health every
 * five seconds.
 */
export class Sessions {
  readonly #sessions = new Map<string, Session>();
  readonly #ended = new Set<string>();
  /** Held, and not named by a Solve, by client. */
  readonly #unnamed = new Map<object, Set<Call>>();
  /** Let go, and not named by a Solve. */
  readonly #loose = new LooseCalls(loose);
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
    if (session.open > 0) this.#send(session, call);
    else if (session.waiting === 0 && this.#ended.has(id)) this.#loose.pass(call);
    else if (session.waiting > 0 && this.#isNamed(session, call)) this.#greetLater(session, call);
    else this.#holdUnnamed(session, call);
    call.whenOver(() => {
      clearTimeout(session.calls.get(call));
      session.calls.delete(call);
      session.named.delete(call);
      this.#take(call);
      this.#prune(id, session);
    });
  }

  /** Whether a client has so many sessions that no Solve has named that it is still preparing a bake. */
  isPreparing(client: object): boolean {
    return (this.#unnamed.get(client)?.size ?? 0) >= crowd;
  }

  /** A solve that uses these sessions waits. */
  wait(ids: readonly string[]): void {
    for (const id of ids) {
      const session = this.#get(id);
      session.waiting++;
      this.#ended.delete(id);
      if (session.waiting > 1) continue;
      for (const call of session.calls.keys()) if (this.#isNamed(session, call)) this.#greetLater(session, call);
    }
  }

  /** A solve that waited may go. */
  release(ids: readonly string[]): void {
    for (const id of ids) {
      const session = this.#get(id);
      session.waiting--;
      session.open++;
      for (const call of session.calls.keys()) this.#send(session, call);
    }
  }

  /** A solve is over. @param was where it stood */
  end(ids: readonly string[], was: 'waiting' | 'open'): void {
    for (const id of ids) {
      const session = this.#sessions.get(id);
      if (!session) continue;
      session[was]--;
      // Its client ends it now, or has another use for it: buildkitd takes it from here.
      if (session.waiting === 0) for (const call of session.calls.keys()) this.#loose.pass(call);
      if (session.waiting === 0 && session.open === 0) this.#remember(id);
      this.#prune(id, session);
    }
  }

  #holdUnnamed(session: Session, call: Call): void {
    const { calls } = session;
    const others = this.#unnamed.get(call.origin) ?? new Set();
    const isCrowd = others.size >= crowd;
    this.#unnamed.set(call.origin, others.add(call));
    const limit = isCrowd ? limits.crowd : this.#isBusy() ? limits.busy : limits.free;
    const end = (): void => {
      this.#loose.pass(call);
      if (call.isOpen) this.#take(call);
      else this.#greetLater(session, call);
    };
    const greet = (): void => {
      if (this.#greet(call)) calls.set(call, setTimeout(end, limit - limits.greet));
      else end();
    };
    calls.set(call, isCrowd ? setTimeout(greet, limits.greet) : setTimeout(end, limit));
  }

  /** Lets a call go whose name a Solve has that was let go. */
  #send(session: Session, call: Call): void {
    if (!this.#isNamed(session, call)) {
      this.#loose.pass(call);
      return;
    }
    clearTimeout(session.calls.get(call));
    call.open();
  }

  /** Whether a call goes because of a Solve that names it: it is then one that nobody asks for no longer. */
  #isNamed({ named }: Session, call: Call): boolean {
    if (named.has(call)) return true;
    if (named.size >= mostOfName) return false;
    named.add(call);
    this.#loose.forget(call);
    this.#take(call);
    return true;
  }

  #take(call: Call): void {
    const others = this.#unnamed.get(call.origin);
    others?.delete(call);
    if (others?.size === 0) this.#unnamed.delete(call.origin);
  }

  #greetLater(session: Session, call: Call): void {
    const { calls, named } = session;
    clearTimeout(calls.get(call));
    if (call.isOpen || call.isOver) return;
    const waited = (): number => performance.now() - call.arrivedAt;
    const left = limits.greet - waited();
    const greet = (): void => {
      if (this.#greet(call)) return;
      if (named.has(call) && waited() >= limits.ungreeted) call.open();
      else if (!named.has(call)) this.#loose.pass(call);
      // The first that goes tells how the others are greeted.
      if (!call.isOpen) calls.set(call, setTimeout(greet, limits.again));
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
    keepNewest(this.#ended, mostEnded);
  }

  #get(id: string): Session {
    const known = this.#sessions.get(id);
    if (known) return known;
    const session: Session = { waiting: 0, open: 0, calls: new Map(), named: new Set() };
    this.#sessions.set(id, session);
    return session;
  }

  #prune(id: string, { waiting, open, calls }: Session): void {
    if (waiting <= 0 && open <= 0 && calls.size === 0) this.#sessions.delete(id);
  }
}
