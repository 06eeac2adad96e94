import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { parseStatusLine } from '../../host/client/build-directory.ts';
import { cpuSeconds } from '../lib/process-cost.ts';

/** How a `buildx bake` ended. */
export interface BakeRun {
  exitCode: number;
  seconds: number;
  /** Targets whose last step was done. */
  done: number;
  /** Lines that tell of an error, and steps that failed; none when all is well. */
  errors: string[];
  /** CPU seconds of buildx itself. */
  clientCpu: number;
}

/** What a bake is run with. */
export interface BakeOptions {
  /** Path of buildx. */
  buildx: string;
  /** The Unix socket of a BuildKit. */
  socket: string;
  /** A folder for buildx's own state, of this socket alone. */
  config: string;
  /** Where the bake file is. */
  dir: string;
  /** Its targets; default: all. */
  targets?: string[];
  /** Told of each target that is done, how many there are. */
  onDone?: (done: number) => void;
  limitMs: number;
}

/** The last step of a target, as buildx names it: `[t17 s17 1/1] COPY …`, `[t17 2/2] RUN …`. */
const lastStep = /^\[(t\d+) (?:\S+ )?(\d+)\/\2\] /;

/** Runs one `buildx bake` to its end, whatever that is. */
export async function runBake(options: BakeOptions): Promise<BakeRun> {
  const { buildx, socket, config, dir, targets = [], onDone, limitMs } = options;
  // buildx makes a folder for each inline Dockerfile, and leaves them when it is killed.
  const env = { BUILDX_CONFIG: config, BUILDX_GIT_INFO: '0', TMPDIR: config };
  const create = ['create', '--name', 'bench', '--driver', 'remote', `unix://${socket}`];
  await execa(buildx, create, { env, reject: false });
  const begun = performance.now();
  const args = ['bake', '--builder', 'bench', '--progress', 'rawjson', ...targets];
  const child = execa(buildx, args, {
    ...{ cwd: dir, env, stdin: 'ignore', stdout: 'ignore', buffer: false, reject: false, timeout: limitMs },
  });
  const done = new Set<string>();
  const errors = new Set<string>();
  let clientCpu = 0;
  const watching = setInterval(() => {
    clientCpu = Math.max(clientCpu, cpuSeconds(child.pid ?? 0));
  }, 500);
  for await (const line of createInterface({ input: child.stderr })) {
    const status = parseStatusLine(line);
    if (status === undefined && /\b(error|failed|unavailable|panic)\b/i.test(line)) errors.add(line);
    for (const { name, completed, error } of status?.vertexes ?? []) {
      if (error) errors.add(`${name}: ${error}`);
      const target = completed && !error ? lastStep.exec(name)?.[1] : undefined;
      if (target === undefined || done.has(target)) continue;
      done.add(target);
      onDone?.(done.size);
    }
  }
  const { exitCode = -1, timedOut } = await child;
  clearInterval(watching);
  if (timedOut) errors.add(`not over after ${limitMs / 1000} s`);
  const seconds = (performance.now() - begun) / 1000;
  return { exitCode, seconds, done: done.size, errors: [...errors], clientCpu };
}

/** Path of buildx among the tools. */
export function buildxIn(tools: string): string {
  return join(tools, 'buildx');
}
