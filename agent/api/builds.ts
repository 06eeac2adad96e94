import { BuildvisorError } from '../../common/errors.ts';
import type { BuildRecord } from '../../common/generated/types/buildvisor/v1/BuildRecord.ts';
import type { BuildRequest__Output } from '../../common/generated/types/buildvisor/v1/BuildRequest.ts';
import type { BuildSpec__Output } from '../../common/generated/types/buildvisor/v1/BuildSpec.ts';
import type { BuildsHandlers } from '../../common/generated/types/buildvisor/v1/Builds.ts';
import type { CancelRequest__Output } from '../../common/generated/types/buildvisor/v1/CancelRequest.ts';
import type { GetRequest__Output } from '../../common/generated/types/buildvisor/v1/GetRequest.ts';
import type { ListRequest__Output } from '../../common/generated/types/buildvisor/v1/ListRequest.ts';
import type { ListResponse } from '../../common/generated/types/buildvisor/v1/ListResponse.ts';
import type { WatchRequest__Output } from '../../common/generated/types/buildvisor/v1/WatchRequest.ts';
import type { Builds } from '../builds/builds.ts';
import { checkSpec, type SpecRules } from '../builds/spec.ts';
import type { BuildState } from '../builds/verdict.ts';
import type { Handlers } from './calls.ts';
import { type EventOrBytes, Follower } from './follower.ts';
import type { StateBoard } from './state.ts';

/** What the service needs. */
export interface BuildsService {
  builds: Builds;
  state: StateBoard;
  rules: SpecRules;
}

/** The handlers of `buildvisor.v1.Builds`. @param service gives what is there once the machine is up; throws before */
export function buildsHandlers(handlers: Handlers, service: () => BuildsService): BuildsHandlers {
  return {
    Build: handlers.duplex<BuildRequest__Output, EventOrBytes>(async (requests, send, { signal }) => {
      const { builds, state, rules } = service();
      state.requireReady();
      const reader = requests[Symbol.asyncIterator]();
      const spec = checkSpec(await firstSpec(reader), rules);
      const follower = new Follower(send, () => builds.recorder.counts);
      const build = builds.start(spec, {
        context: contextOf(reader),
        onOutput: (chunk) => follower.output(chunk),
      });
      const leave = builds.attend(build, spec);
      try {
        await follower.follow(build, 0, signal);
      } finally {
        leave();
      }
    }) as unknown as BuildsHandlers['Build'],
    Watch: handlers.stream<WatchRequest__Output, EventOrBytes>(async ({ id, after }, send, { signal }) => {
      const { builds } = service();
      const build = builds.get(id);
      const { lastSeq } = build.events;
      if (after > lastSeq)
        throw new BuildvisorError('USAGE', `Build ${build.id} has no event ${after} yet, its last is ${lastSeq}`, {
          facts: { after, lastSeq },
        });
      const leave = builds.attend(build);
      try {
        await new Follower(send, () => builds.recorder.counts).follow(build, after, signal);
      } finally {
        leave();
      }
    }) as unknown as BuildsHandlers['Watch'],
    Get: handlers.unary<GetRequest__Output, BuildRecord>(async ({ id }) => {
      const { builds } = service();
      await builds.recorded(id);
      return builds.get(id).record(builds.recorder.counts);
    }),
    List: handlers.unary<ListRequest__Output, ListResponse>(async ({ states, limit }) => {
      const { builds } = service();
      await builds.recorded();
      const { counts } = builds.recorder;
      return { builds: builds.list({ states: states as BuildState[], limit }).map((build) => build.summary(counts)) };
    }),
    Cancel: handlers.unary<CancelRequest__Output, BuildRecord>(async ({ id }) => {
      const { builds } = service();
      return (await builds.cancel(id)).record(builds.recorder.counts);
    }),
  };
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
