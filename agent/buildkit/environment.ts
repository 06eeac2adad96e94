import type { Platform } from '../sys/platform.ts';

/**
 * The environment of buildkitd: ours without what would make it look for a tracing service, and with our tools first in the PATH, as it looks
 * there for its CNI plugins.
 *
 * @param tmp folder for its temporary files
 * @param own ours
 */
export function daemonEnvironment(
  { toolsDir }: Pick<Platform, 'toolsDir'>,
  tmp: string,
  own: NodeJS.ProcessEnv = process.env,
): NodeJS.ProcessEnv {
  const inherited = Object.entries(own).filter(([name]) => !/^(OTEL_|JAEGER_|TRACEPARENT|TRACESTATE|NODE_)/.test(name));
  return {
    ...Object.fromEntries(inherited),
    PATH: `${toolsDir}:${own.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin'}`,
    TMPDIR: tmp,
    // BuildKit would clip each step's log at 2 MiB and 200 KiB/s, unless both are -1 (util/progress/logs/logs.go); the journal
    // has limits of its own.
    BUILDKIT_STEP_LOG_MAX_SIZE: '-1',
    BUILDKIT_STEP_LOG_MAX_SPEED: '-1',
  };
}
