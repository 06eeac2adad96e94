import { BuildvisorError } from '../../common/errors.ts';
import type { BuildEvent } from '../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import type { BuildRecord } from '../../common/generated/types/buildvisor/v1/BuildRecord.ts';
import type { BuildRequest__Output } from '../../common/generated/types/buildvisor/v1/BuildRequest.ts';
import type { BuildSpec__Output } from '../../common/generated/types/buildvisor/v1/BuildSpec.ts';
import type { BuildsHandlers } from '../../common/generated/types/buildvisor/v1/Builds.ts';
import type { CancelRequest__Output } from '../../common/generated/types/buildvisor/v1/CancelRequest.ts';
import type { GetRequest__Output } from '../../common/generated/types/buildvisor/v1/GetRequest.ts';
import type { ListRequest__Output } from '../../common/generated/types/buildvisor/v1/ListRequest.ts';
import type { ListResponse } from '../../common/generated/types/buildvisor/v1/ListResponse.ts';
import type { WatchRequest__Output } from '../../common/generated/types/buildvisor/v1/WatchRequest.ts';
import type { Build } from '../builds/build.ts';
import type { Builds } from '../builds/builds.ts';
import { checkSpec, type SpecRules } from '../builds/spec.ts';
import type { Handlers, Send } from './calls.ts';
import type { StateBoard } from './state.ts';

/** An event to send, as an object or in its serialised form (see `server.ts`). */
export type EventOrBytes = BuildEvent | Buffer;

/** What the service needs. */
export interface BuildsService {
  builds: Builds;
  state: StateBoard;
  rules: SpecRules;
}

/** The proto says that a client hears something at least this often, in milliseconds. */
const heartbeatMs = 15_000;

/** The handlers of `buildvisor.v1.Builds`. @param service gives what is there once the machine is up; throws before */
export function buildsHandlers(handlers: Handlers, service: () => BuildsService): BuildsHandlers {
  return {
    Build: handlers.duplex<BuildRequest__Output, EventOrBytes>(async (requests, send, { signal }) => {
      const { builds, state, rules } = service();
      state.requireReady();
      const reader = requests[Symbol.asyncIterator]();
      const spec = checkSpec(await firstSpec(reader), rules);
      const follower = new Follower(send);
      const build = builds.start(spec, {
        context: contextOf(reader),
        onOutput: (chunk) => follower.output(chunk),
      });
      const onGone = (): void => void builds.cancel(build.id).catch(() => undefined);
      signal.addEventListener('abort', onGone, { once: true });
      if (signal.aborted) onGone();
      try {
        await follower.follow(build, 0, signal);
      } finally {
        signal.removeEventListener('abort', onGone);
      }
    }) as unknown as BuildsHandlers['Build'],
    Watch: handlers.stream<WatchRequest__Output, EventOrBytes>(async ({ id, after }, send, { signal }) => {
      const build = service().builds.get(id);
      const { lastSeq } = build.journal;
      if (after > lastSeq)
        throw new BuildvisorError('USAGE', `Build ${build.id} has no event ${after} yet, its last is ${lastSeq}`, {
          facts: { after, lastSeq },
        });
      await new Follower(send).follow(build, after, signal);
    }) as unknown as BuildsHandlers['Watch'],
    Get: handlers.unary<GetRequest__Output, BuildRecord>(({ id }) => service().builds.get(id).record()),
    List: handlers.unary<ListRequest__Output, ListResponse>(() => ({
      builds: service()
        .builds.list()
        .map((build) => build.record()),
    })),
    Cancel: handlers.unary<CancelRequest__Output, BuildRecord>(async ({ id }) =>
      (await service().builds.cancel(id)).record(),
    ),
  };
}

/** Sends a build's events to one client. */
class Follower {
  readonly #send: Send<EventOrBytes>;
  #lastSeq = 0;
  #sentAt = Date.now();

  constructor(send: Send<EventOrBytes>) {
    this.#send = send;
  }

  /** Sends a piece of the output, in the midst of the events. */
  async output(chunk: Buffer): Promise<void> {
    await this.#tell({ seq: this.#lastSeq, atMs: Date.now(), output: chunk });
  }

  /** Sends the events after `after` to the last, and heartbeats between them. */
  async follow(build: Build, after: number, signal: AbortSignal): Promise<void> {
    this.#lastSeq = after;
    const heart = setInterval(() => {
      if (Date.now() - this.#sentAt < heartbeatMs) return;
      void this.#tell({ seq: this.#lastSeq, atMs: Date.now(), heartbeat: {} });
    }, heartbeatMs / 3);
    try {
      for await (const { seq, bytes } of build.journal.watch(after, signal)) {
        this.#lastSeq = seq;
        await this.#tell(bytes);
      }
    } finally {
      clearInterval(heart);
    }
  }

  async #tell(event: EventOrBytes): Promise<void> {
    this.#sentAt = Date.now();
    await this.#send(event);
  }
}

async function firstSpec(requests: AsyncIterator<BuildRequest__Output>): Promise<BuildSpec__Output> {
  const { value, done } = await requests.next();
  if (!done && value.spec) return value.spec;
  throw new BuildvisorError('USAGE', 'The first message of a build must be its spec');
}

async function* contextOf(requests: AsyncIterator<BuildRequest__Output>): AsyncGenerator<Buffer> {
  for (;;) {
    const { value, done } = await requests.next();
    if (done) return;
    if (value.context === undefined) throw new BuildvisorError('USAGE', 'After its spec a build has context only');
    if (value.context.length > 0) yield value.context;
  }
}
