import { join } from 'node:path';
import { execa, type ResultPromise } from 'execa';
import { fromWireError } from '../../common/grpc-errors.ts';
import { connectApi } from '../../host/client/connect.ts';
import type { ApiClient } from '../../host/client/types.ts';
import { sleepingContext } from '../kill/context.ts';
import type { PlannedClient } from './plan.ts';
import type { TearableRelay } from './relay.ts';

const cliMain = join(import.meta.dirname, '../../host/cli/main.ts');

/** Milliseconds for a client to be gone after its end has come, and for one that is left alone. */
const limits = { gone: 60_000, finish: 120_000 };

/** Where clients come from: each place has one at a time. */
export interface ClientPlace {
  scope: string;
  /** Folder with buildctl and buildx. */
  tools: string;
  /** buildx's state, with a builder called `soak` at the relay to the gate. */
  buildxConfig: string;
  /** Before the gate, and before our API. */
  gate: TearableRelay;
  api: TearableRelay;
  /** A context's folder with a Dockerfile whose steps depend on the build argument SALT. */
  context: string;
}

/** How a client ended: `passed`, `failed` with its words, `stuck` when it was not gone in time. */
export interface ClientOutcome {
  end: 'passed' | 'failed' | 'stuck';
  words: string;
}

/** Runs a client to the end that is planned for it. */
export async function runClient(place: ClientPlace, planned: PlannedClient, salt: string): Promise<ClientOutcome> {
  return planned.kind === 'api' ? runApi(place, planned, salt) : runProgram(place, planned, salt);
}

async function runProgram(place: ClientPlace, planned: PlannedClient, salt: string): Promise<ClientOutcome> {
  const child = spawnClient(place, planned.kind, salt);
  const ending = setTimeout(() => {
    if (planned.end === 'kill') child.kill('SIGKILL');
    // The CLI goes to the machine's own sockets.
    else if (planned.end === 'cancel' || planned.kind === 'cli') child.kill('SIGINT');
    else place.gate.tear();
  }, planned.afterMs);
  if (planned.end === 'finish') clearTimeout(ending);
  const { exitCode, timedOut, stderr } = await child;
  clearTimeout(ending);
  const words = stderr.split('\n').slice(-3).join(' | ');
  return { end: timedOut ? 'stuck' : exitCode === 0 ? 'passed' : 'failed', words };
}

function spawnClient(place: ClientPlace, kind: PlannedClient['kind'], salt: string): ResultPromise<ProgramOptions> {
  const { tools, context, gate, scope, buildxConfig } = place;
  // Clients that are killed leave files there.
  const env = { BUILDX_CONFIG: buildxConfig, BUILDX_GIT_INFO: '0', TMPDIR: buildxConfig };
  const options: ProgramOptions = { reject: false, timeout: limits.finish, stdin: 'ignore', stdout: 'ignore', env };
  if (kind === 'buildctl') {
    const args = ['--addr', `unix://${gate.path}`, 'build', '--progress', 'plain', '--frontend', 'dockerfile.v0'];
    args.push('--local', `context=${context}`, '--local', `dockerfile=${context}`, '--opt', `build-arg:SALT=${salt}`);
    return execa(join(tools, 'buildctl'), args, options);
  }
  if (kind === 'buildx') {
    const args = ['build', '--builder', 'soak', '--progress', 'plain', '--build-arg', `SALT=${salt}`, context];
    return execa(join(tools, 'buildx'), args, options);
  }
  return execa(process.execPath, [cliMain, 'build', context, '-s', scope, '--build-arg', `SALT=${salt}`], options);
}

interface ProgramOptions {
  reject: false;
  timeout: number;
  stdin: 'ignore';
  stdout: 'ignore';
  env: Record<string, string>;
}

/** A client of our API in this process: cancelled by a call of its own, torn at the relay, gone by closing its connection. */
async function runApi(place: ClientPlace, planned: PlannedClient, salt: string): Promise<ClientOutcome> {
  const client = connectApi(place.api.path);
  const id = `soak-${salt}`;
  const gone = new AbortController();
  const limit = AbortSignal.timeout(limits.finish);
  const ending = setTimeout(() => {
    if (planned.end === 'cancel') void cancel(client, id);
    else if (planned.end === 'tear') place.api.tear();
    else gone.abort();
  }, planned.afterMs);
  if (planned.end === 'finish') clearTimeout(ending);
  try {
    const words = await buildOverApi(client, id, salt, AbortSignal.any([gone.signal, limit]));
    return { end: words === undefined ? 'passed' : 'failed', words: words ?? '' };
  } catch (error) {
    return { end: limit.aborted ? 'stuck' : 'failed', words: String(error) };
  } finally {
    clearTimeout(ending);
    client.close();
  }
}

/** @returns why it failed; undefined when it passed */
async function buildOverApi(
  client: ApiClient,
  id: string,
  salt: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const tar = await sleepingContext(salt);
  const chunks = async function* (): AsyncGenerator<Buffer> {
    yield tar;
  };
  for await (const { result } of client.build({ id }, chunks(), { signal })) {
    if (result?.error?.error) return fromWireError(result.error.error).message;
    if (result) return undefined;
  }
  return 'no result came';
}

/** A cancel that comes before its build, or after it, has nothing to do. */
async function cancel(client: ApiClient, id: string): Promise<void> {
  await client.cancel(id).catch((error: unknown) => String(error));
}
