import { ByteTail } from './byte-tail.ts';
import { keepNewest } from './keep-newest.ts';
import type { SolveStatus, StepCounts, Vertex } from './status.ts';

/** What the counter keeps at most: steps of one build, steps whose log is kept, and the log's lines and bytes of each. */
const limits = { steps: 200_000, logs: 256, lines: 100, bytes: 64 * 1024 };

/**
 * How the names of vertices begin that BuildKit makes for itself, not for a step of the build: the Dockerfile frontend's
 * `[internal]`, session/auth/authprovider's `[auth]`, the exporters' Name() (exporter/, cache/remotecache/), the importers
 * (solver/llbsolver/bridge.go) and the clients' own (client/solve.go, docker/buildx).
 */
const ownNames = [
  '[internal] ',
  '[auth] ',
  'exporting ',
  'importing cache ',
  'importing to ',
  'resolve image config for ',
  'sending tarball',
  'copying files ',
  'pushing ',
  'writing image ',
];

/** The step that failed. */
export interface FailedStep {
  /** Such as `[build 3/5] RUN make`. */
  name: string;
  digest: string;
  /** BuildKit's sentence about it. */
  error: string;
  /** Its last lines of log, the oldest first. */
  log: string[];
}

/** Whether a step of this name is BuildKit's own: loading, authorisation, import and export. */
export function isBuildKitStep(name: string): boolean {
  return ownNames.some((start) => name.startsWith(start));
}

interface Step {
  name: string;
  counted: boolean;
  started: boolean;
  /** Whether it has begun and not ended. */
  running: boolean;
  cached: boolean;
  error: string;
  failedAt: string;
}

/** Counts a build's steps and keeps what is told of the one that failed, in bounded memory. */
export class StepCounter {
  readonly #steps = new Map<string, Step>();
  readonly #logs = new Map<string, ByteTail>();
  #failed: string | undefined;

  /** Takes in one status. Any order and any number of repetitions is fine. */
  add(status: SolveStatus): void {
    for (const vertex of status.vertexes ?? []) this.addVertex(vertex);
    for (const log of status.logs ?? []) this.addLog(log.vertex, Buffer.from(log.data, 'base64'));
  }

  /** Takes in a piece of a step's log, which is copied: the bytes of `source` from `start` to `end`. */
  addLog(digest: string, source: Buffer, start = 0, end = source.length): void {
    let tail = this.#logs.get(digest);
    if (!tail) {
      tail = new ByteTail(limits.bytes);
      this.#logs.set(digest, tail);
      keepNewest(this.#logs, limits.logs);
    }
    tail.add(source, start, end);
  }

  /** Steps known so far; `run` counts those that were started and not taken from the cache. */
  counts(): StepCounts {
    const counts: StepCounts = { total: 0, cached: 0, run: 0 };
    for (const step of this.#steps.values()) {
      if (!step.counted) continue;
      counts.total++;
      if (step.cached) counts.cached++;
      else if (step.started) counts.run++;
    }
    return counts;
  }

  /** Digests of the vertexes that have begun and not ended. */
  running(): string[] {
    return [...this.#steps].flatMap(([digest, { running }]) => (running ? [digest] : []));
  }

  /** The step that failed first: those that were called off because of it end later. */
  failed(): FailedStep | undefined {
    const step = this.#failed === undefined ? undefined : this.#steps.get(this.#failed);
    if (this.#failed === undefined || !step) return undefined;
    return {
      name: step.name,
      digest: this.#failed,
      error: step.error,
      log: lastLines(this.#logs.get(this.#failed)?.bytes()),
    };
  }

  /** Takes in what is told of a vertex. */
  addVertex(vertex: Vertex): void {
    let step = this.#steps.get(vertex.digest);
    if (!step) {
      if (this.#steps.size >= limits.steps) return;
      const counted = !isBuildKitStep(vertex.name);
      step = { name: vertex.name, counted, started: false, running: false, cached: false, error: '', failedAt: '~' };
      this.#steps.set(vertex.digest, step);
    }
    step.started ||= vertex.started !== undefined;
    step.running = vertex.started !== undefined && vertex.completed === undefined;
    step.cached ||= vertex.cached === true;
    if (vertex.error) {
      step.error = vertex.error;
      step.failedAt = sortable(vertex.completed);
      const first = this.#failed === undefined ? undefined : this.#steps.get(this.#failed);
      if (!first || step.failedAt < first.failedAt) this.#failed = vertex.digest;
    } else if (vertex.completed !== undefined) {
      this.#logs.delete(vertex.digest);
    }
  }
}

/**
 * A time to sort by: without its `Z`, the text's order is the time's, however many digits the fraction has. A failing step
 * without a time goes last.
 */
function sortable(time: string | undefined): string {
  return time?.slice(0, -1) ?? '~';
}

/** The last lines of a log. */
function lastLines(log: Buffer = Buffer.alloc(0)): string[] {
  const lines = log.toString('utf8').split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines.slice(-limits.lines);
}
