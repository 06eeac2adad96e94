import { expect, test } from 'vitest';
import { daemonEnvironment } from '../../../agent/buildkit/environment.ts';

const tools = { toolsDir: '/opt/tools' };

test('buildkitd collects its garbage early, unless the machine was booted with another word', () => {
  expect(daemonEnvironment(tools, '/tmp', {}).GOGC).toBe('50');
  expect(daemonEnvironment(tools, '/tmp', { GOGC: '100' }).GOGC).toBe('100');
});

test('buildkitd is told of no tracing service, and finds our tools first', () => {
  const own = {
    PATH: '/bin',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'x',
    TRACEPARENT: 'x',
    NODE_OPTIONS: 'x',
    TMPDIR: '/x',
    HOME: '/root',
  };
  const { GOGC: _, ...rest } = daemonEnvironment(tools, '/tmp', own);
  expect(rest).toEqual({
    PATH: '/opt/tools:/bin',
    HOME: '/root',
    TMPDIR: '/tmp',
    BUILDKIT_STEP_LOG_MAX_SIZE: '-1',
    BUILDKIT_STEP_LOG_MAX_SPEED: '-1',
  });
});
