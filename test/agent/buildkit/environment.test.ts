import { expect, test } from 'vitest';
import { daemonEnvironment } from '../../../agent/buildkit/environment.ts';

const tools = { toolsDir: '/opt/tools' };

test('buildkitd is told of no tracing service, and finds our tools first', () => {
  const own = {
    PATH: '/bin',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'x',
    TRACEPARENT: 'x',
    NODE_OPTIONS: 'x',
    TMPDIR: '/x',
    HOME: '/root',
  };
  expect(daemonEnvironment(tools, '/tmp', own)).toEqual({
    PATH: '/opt/tools:/bin',
    HOME: '/root',
    TMPDIR: '/tmp',
    BUILDKIT_STEP_LOG_MAX_SIZE: '-1',
    BUILDKIT_STEP_LOG_MAX_SPEED: '-1',
  });
});
