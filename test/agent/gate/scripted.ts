import { join } from 'node:path';
import type { Admission } from '../../../agent/gate/admission/disk.ts';
import type { Call, CallEnd, CallTap, HeaderField, Route } from '../../../agent/gate/call.ts';
import { Desk } from '../../../agent/gate/desk.ts';
import { frameMessage } from '../../../agent/gate/messages.ts';
import { OwnCalls } from '../../../agent/gate/own-calls.ts';
import type { GateRecorder, Origin, QueuePlace, SolveOutcome } from '../../../agent/gate/recorder.ts';
import type { GrpcStatus } from '../../../agent/gate/status.ts';
import { openLog } from '../../../agent/log.ts';
import type { BuildvisorError } from '../../../common/errors.ts';
import { writeBytes, writeNumber, writeString } from '../../../common/protobuf.ts';

/** What happened, one line each, in order. */
export type Journal = string[];

/** A call that a test plays the client and the buildkitd of. */
export class ScriptedCall implements Call {
  readonly path: string;
  readonly origin: Origin;
  headers: HeaderField[];
  readonly arrivedAt = performance.now();
  isOpen = false;
  isOver = false;
  answered: { status: GrpcStatus; message: Buffer | undefined } | undefined;
  /** What was answered before it went to buildkitd. */
  early: Buffer | undefined;
  readonly #name: string;
  readonly #journal: Journal;
  readonly #whenOver: (() => void)[] = [];
  #tap: CallTap = {};

  constructor(options: { name: string; path: string; origin: Origin; headers: HeaderField[]; journal: Journal }) {
    this.#name = options.name;
    this.path = options.path;
    this.origin = options.origin;
    this.headers = options.headers;
    this.#journal = options.journal;
  }

  /** It arrives, with its message in chunks of `chunk` bytes. */
  arrive(route: Route, message: Buffer, chunk = message.length + 5): this {
    this.#tap = route(this);
    const framed = frameMessage(message);
    for (let at = 0; at < framed.length; at += chunk) this.#tap.request?.(framed.subarray(at, at + chunk));
    return this;
  }

  open(): void {
    if (this.isOpen || this.isOver) return;
    this.isOpen = true;
    this.#journal.push(`open ${this.#name}`);
  }

  answer(status: GrpcStatus, message?: Buffer): void {
    if (this.isOver) return;
    this.answered = { status, message };
    this.#journal.push(`answer ${this.#name} ${status.code}`);
    this.#end({ status, calledOff: this.isOpen });
  }

  answerEarly(bytes: Buffer): boolean {
    if (this.isOpen || this.isOver) return false;
    this.early = bytes;
    this.#journal.push(`greet ${this.#name}`);
    return true;
  }

  whenOver(then: () => void): void {
    if (this.isOver) then();
    else this.#whenOver.push(then);
  }

  /** Its client sends one more message. */
  say(message: Buffer): void {
    this.#tap.request?.(frameMessage(message));
  }

  /** buildkitd answers a message. */
  respond(message: Buffer): void {
    this.#tap.response?.(frameMessage(message));
  }

  /** Its client goes away. */
  leave(): void {
    if (!this.isOver) this.#end({ status: undefined, calledOff: true });
  }

  /** buildkitd ends it. */
  end(code = 0, message = ''): void {
    if (!this.isOver) this.#end({ status: { code, message, details: undefined }, calledOff: false });
  }

  #end(end: CallEnd): void {
    this.isOver = true;
    for (const then of this.#whenOver.splice(0)) then();
    this.#tap.ended?.(end);
  }
}

/** What a test's Solve has. */
export interface SolveFields {
  frontend?: string;
  definition?: Buffer;
  session?: string;
  shared?: string;
  internal?: boolean;
}

/** A desk without a buildkitd, and clients to it. */
export function openDesk(options: {
  maxBuilds: number;
  disk?: Admission;
  behind?: () => BuildvisorError | undefined;
}): {
  desk: Desk;
  journal: Journal;
  places: Map<string, QueuePlace>;
  outcomes: Map<string, SolveOutcome>;
  client(name?: string, origin?: Origin): ScriptedClient;
} {
  const journal: Journal = [];
  const places = new Map<string, QueuePlace>();
  const outcomes = new Map<string, SolveOutcome>();
  const recorder: GateRecorder = {
    solveQueued: ({ ref }) => journal.push(`queued ${ref}`),
    solveMoved: (ref, place) => places.set(ref, place),
    solveStarted: ({ ref }) => journal.push(`started ${ref}`),
    status: (ref) => journal.push(`status ${ref}`),
    solveEnded: (ref, outcome) => {
      journal.push(`ended ${ref} ${outcome.code}`);
      outcomes.set(ref, outcome);
    },
    activity: () => undefined,
    get behind() {
      return options.behind?.();
    },
  };
  const log = openLog('silent');
  const calls = new OwnCalls(join('/nonexistent', 'bk.sock'), log);
  const desk = new Desk({ ...options, recorder, calls, log });
  return {
    desk,
    journal,
    places,
    outcomes,
    client: (name, origin) => new ScriptedClient(desk.route, journal, name, origin),
  };
}

/** One connection's calls. */
export class ScriptedClient {
  readonly #route: Route;
  readonly #journal: Journal;
  readonly #name: string;
  readonly #origin: Origin;

  constructor(route: Route, journal: Journal, name = '', origin: Origin = {}) {
    this.#route = route;
    this.#journal = journal;
    this.#name = name;
    this.#origin = origin;
  }

  /** A Solve; by default of a client that is its own frontend. */
  solve(ref: string, fields: SolveFields = {}, headers: HeaderField[] = [], chunk?: number): ScriptedCall {
    const { frontend, definition, session, shared, internal } = fields;
    const message = Buffer.concat([
      writeString(1, ref),
      ...(definition ? [writeBytes(2, definition)] : []),
      ...(session ? [writeString(5, session)] : []),
      ...(frontend ? [writeString(6, frontend)] : []),
      ...(shared ? [writeBytes(7, Buffer.concat([writeString(1, 'local-sessionid:x'), writeString(2, shared)]))] : []),
      ...(internal ? [writeNumber(11, 1)] : []),
    ]);
    return this.call(`solve ${ref}`, '/moby.buildkit.v1.Control/Solve', headers, message, chunk);
  }

  status(ref: string, headers: HeaderField[] = []): ScriptedCall {
    return this.call(`status ${ref}`, '/moby.buildkit.v1.Control/Status', headers, writeString(1, ref));
  }

  session(id: string, headers: HeaderField[] = []): ScriptedCall {
    const own: HeaderField[] = [['x-docker-expose-session-uuid', id]];
    return this.call(`session ${id}`, '/moby.buildkit.v1.Control/Session', [...own, ...headers]);
  }

  bridge(ref: string, method: string, headers: HeaderField[] = []): ScriptedCall {
    const own: HeaderField[] = [['buildkit-controlapi-buildid', ref]];
    return this.call(`${method} ${ref}`, `/moby.buildkit.v1.frontend.LLBBridge/${method}`, [...own, ...headers]);
  }

  call(
    name: string,
    path: string,
    headers: HeaderField[] = [],
    message: Buffer = Buffer.alloc(0),
    chunk?: number,
  ): ScriptedCall {
    const { origin, journal } = { origin: this.#origin, journal: this.#journal };
    const call = new ScriptedCall({ name: `${this.#name}${name}`, path, origin, headers, journal });
    return call.arrive(this.#route, message, chunk);
  }
}
