import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import type { Side } from '../lib/pairs.ts';

/** A door to BuildKit's API. */
export interface Door {
  /** What it is called in tables. */
  name: string;
  /** Path of its Unix socket. */
  socket: string;
}

/** What one run of a build is. */
export interface GateLoad {
  /** Path of buildctl. */
  buildctl: string;
  /** The context's folder; the Dockerfile is in it. */
  context: string;
  /** A folder for what the client prints. */
  outputs: string;
  /** Brings the context in the state that this run is to find, before the clock starts. */
  prepare?: (name: string) => Promise<void>;
  /** More arguments of this run. */
  args?: (name: string) => string[];
  /** @throws when the client did not print what it had to */
  check?: (output: string) => void;
}

/** `buildctl build` through a door: from the program's start to its exit, its output into a file. */
export function buildctlSide({ name, socket }: Door, load: GateLoad): Side {
  return {
    name,
    async run(round, signal) {
      const run = `${name}-${round}`.replaceAll(' ', '-');
      await load.prepare?.(run);
      const file = join(load.outputs, run);
      const args = [
        ...['--addr', `unix://${socket}`, 'build', '--progress', 'plain', '--frontend', 'dockerfile.v0'],
        ...['--local', `context=${load.context}`, '--local', `dockerfile=${load.context}`],
        ...(load.args?.(run) ?? []),
      ];
      const begun = performance.now();
      await execa(load.buildctl, args, { stdin: 'ignore', stdout: 'ignore', stderr: { file }, cancelSignal: signal });
      const ms = performance.now() - begun;
      load.check?.(await readFile(file, 'utf8'));
      await rm(file);
      return ms;
    },
  };
}
