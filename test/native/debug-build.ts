import { join } from 'node:path';
import { type IPty, spawn as spawnPty } from '@lydell/node-pty';
import { pollUntil } from '../../common/wait.ts';
import { buildx, toolsDir } from './buildkitd.ts';

/** `buildx debug` of a build whose step fails, at a terminal of its own: ends at a prompt in the step's container. @param state as of `buildx` */
export async function debugBuild(socket: string, state: string, context: string): Promise<IPty> {
  // Makes the builder.
  await buildx(socket, state, ['inspect']);
  const { name } = readBuilder(await buildx(socket, state, ['ls', '--format', '{{json .}}']), socket);
  return spawnPty(
    join(toolsDir(), 'buildx'),
    ['--builder', name, 'debug', '--on=error', 'build', '--progress=plain', context],
    {
      cols: 100,
      rows: 30,
      env: { ...process.env, BUILDX_CONFIG: state, BUILDX_GIT_INFO: '0', BUILDX_EXPERIMENTAL: '1', TERM: 'xterm' },
    },
  );
}

/** The builder that was made for a socket. */
function readBuilder({ stdout }: { stdout: unknown }, socket: string): { name: string } {
  const builders = String(stdout)
    .split('\n')
    .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
  const found = builders.find(({ Nodes }) => JSON.stringify(Nodes ?? '').includes(socket));
  if (!found) throw new Error(`no builder for ${socket} in ${stdout}`);
  return { name: found.Name };
}

/** What a terminal has been sent so far. */
export function watch(pty: IPty): { until(pattern: RegExp): Promise<true> } {
  let text = '';
  pty.onData((data) => {
    text += data;
  });
  return {
    until: (pattern) =>
      pollUntil({ limitMs: 120_000, everyMs: 20, what: `${pattern} in ${JSON.stringify(text)}` }, () =>
        pattern.test(text) ? true : undefined,
      ).catch((error) => Promise.reject(new Error(`${error.message}; the terminal shows ${text}`))),
  };
}
