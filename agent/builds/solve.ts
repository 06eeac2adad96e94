import type { Duplex } from 'node:stream';
import { untilAborted } from '../../common/abortable.ts';
import { BuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';
import type { Origin } from '../gate/recorder.ts';
import type { Logger } from '../log.ts';
import { buildctlArguments } from './arguments.ts';
import type { Build } from './build.ts';
import { openDoor, runBuildctl } from './buildctl.ts';
import type { BuildSpec } from './spec.ts';

/** The part of the gate that builds use. */
export interface BuildsGate {
  accept(connection: Duplex, origin?: Origin): void;
  cancel(ref: string, why?: string): Promise<boolean>;
}

/** What {@link solve} works with. */
export interface SolveOptions {
  spec: BuildSpec;
  /** Folder of the unpacked context. */
  context: string;
  /** Path of `buildctl`. */
  program: string;
  /** Path for a socket of this build's own, short. */
  socket: string;
  /** A folder for buildctl's `HOME`. */
  home: string;
  gate: BuildsGate;
  onOutput: (chunk: Buffer) => Promise<void>;
  log: Logger;
}

/** How long the gate's word on a solve may come after buildctl is gone, in milliseconds. */
const outcomeLimitMs = 15_000;

/**
 * Has BuildKit build, through a buildctl that comes in by a door of its own, so that the gate knows whose solve it is. The
 * outcome is the build's own; what is thrown came before or instead of one. No process of the build is left at the end.
 */
export async function solve(build: Build, options: SolveOptions): Promise<void> {
  const { spec, context, program, socket, home, gate, onOutput, log } = options;
  const door = await openDoor(socket, (connection) => gate.accept(connection, { build: build.id }));
  try {
    const { exitCode, words } = await runBuildctl({
      program,
      arguments: buildctlArguments(spec, context, door.path),
      home,
      signal: build.signal,
      // A client that does not read its output must not keep a cancelled build.
      onOutput: (chunk) => {
        build.outputBytes += chunk.length;
        return untilAborted(onOutput(chunk), build.signal);
      },
    });
    if (exitCode !== 0) build.signal.throwIfAborted();
    if (exitCode === undefined) throw buildctlKilled();
    if (!build.atGate) throw notSolved(exitCode, words);
    const what = `the result of build ${build.id}`;
    const outcome = await withLimit({ limitMs: outcomeLimitMs, what }, () => build.solved);
    if (outcome?.code === 0 && exitCode !== 0) throw notSolved(exitCode, words);
  } finally {
    // The step's processes may outlive buildctl; a build that has ended has none.
    if (build.atGate) await settle(build, gate, log);
    await door.close();
  }
}

async function settle(build: Build, gate: BuildsGate, log: Logger): Promise<void> {
  try {
    await gate.cancel(build.ref);
    await withLimit({ limitMs: outcomeLimitMs, what: `build ${build.id} to be gone` }, () => build.solved);
  } catch (err) {
    log.warn({ build: build.id, err }, 'the end of the solve was not seen');
  }
}

function buildctlKilled(): BuildvisorError {
  return new BuildvisorError('BUILD_INTERRUPTED', 'The buildctl that ran the build was killed', {
    facts: { why: 'buildctl' },
    hint: 'Build again; what was done is in the cache.',
    retryable: true,
  });
}

/** buildctl failed by itself: before its solve, or with what came of it. */
function notSolved(exitCode: number | undefined, words: string): BuildvisorError {
  const said = words.trim().split('\n').at(-1) ?? '';
  return new BuildvisorError('BUILD_FAILED', said === '' ? 'buildctl ended without a build' : said, {
    facts: { exitCode: exitCode ?? -1 },
  });
}
