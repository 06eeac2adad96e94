import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';

/** QEMU as the set-up found it. */
export interface QemuArtefact {
  binary: string;
  /** Arguments every call needs, such as `-L` with its data folders. */
  args: string[];
  version: string;
  /** Accelerator and CPU arguments that are safe without KVM. */
  accelArgs: string[];
}

/** What `make setup` made, by absolute path. */
export interface Artefacts {
  /** Folder with buildkitd, buildctl, buildx and the buildkit-cni-* plugins. */
  tools: string;
  qemu: QemuArtefact;
  vhostDeviceVsock: string;
  kernel: string;
  root: string;
  manifest: string;
  /** Folder with init.js and agent.js, for the `process` driver. */
  agentDir: string;
  node: string;
  /** A registry, for tests only. */
  registry: string;
}

/** Path of the artefacts' index: `$BUILDVISOR_ARTEFACTS`, else `dist/artefacts.json` of the checkout this code is in. */
export function artefactsPath(env: NodeJS.ProcessEnv = process.env): string {
  return env.BUILDVISOR_ARTEFACTS ?? join(checkout(), 'dist/artefacts.json');
}

/**
 * Reads the artefacts' index; only a part of it may be there, so each user asks for what it needs with {@link artefact}.
 * @throws BuildvisorError `ARTEFACT_MISSING` when there is no index or it is no JSON object.
 */
export function readArtefacts(env: NodeJS.ProcessEnv = process.env): Partial<Artefacts> {
  const path = artefactsPath(env);
  try {
    const index: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof index === 'object' && index !== null) return index;
  } catch (error) {
    throw missing(`Cannot read the index of artefacts ${path}`, { path }, error);
  }
  throw missing(`The index of artefacts ${path} is not a JSON object`, { path });
}

/**
 * One artefact of the index.
 * @throws BuildvisorError `ARTEFACT_MISSING`
 */
export function artefact<K extends keyof Artefacts>(index: Partial<Artefacts>, name: K): Artefacts[K] {
  const found = index[name];
  if (found === undefined) throw missing(`The artefact "${name}" has not been made`, { artefact: name });
  return found;
}

function missing(message: string, facts: Record<string, string>, cause?: unknown): BuildvisorError {
  return new BuildvisorError('ARTEFACT_MISSING', message, { facts, cause, hint: 'Run `make setup` in the checkout.' });
}

/** The checkout: two folders above this file in the source tree, one above it in the bundle (`dist/`). */
function checkout(): string {
  const here = import.meta.dirname;
  return import.meta.filename.endsWith('.ts') ? join(here, '../..') : dirname(here);
}
