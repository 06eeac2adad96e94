import type { SolveStatus, Vertex, VertexStatus, VertexWarning } from '../../../common/status.ts';
import { isBuildKitStep } from '../../../common/steps.ts';
import { addInterval, type Interval, spanOf } from './intervals.ts';
import { StepLog } from './step-log.ts';

/**
 * BuildKit ends and begins some steps again at once: a step is over when it has been completed for this long (ms). Renderers that
 * cannot take a line back wait so long for it.
 */
export const settleMs = 300;

/** A part of a step with progress of its own, such as one layer's download. */
export interface Part {
  id: string;
  current: number;
  total: number;
  startedMs: number | undefined;
  completedMs: number | undefined;
  updatedMs: number;
}

/** A warning of a frontend, as text. */
export interface Warning {
  short: string;
  detail: string[];
  url: string;
}

/** A step as renderers see it. Times are milliseconds of the builder's clock. */
export interface Step {
  digest: string;
  name: string;
  /** The order of beginnings, from 1; 0 while it has not begun. */
  index: number;
  cached: boolean;
  /** The error's text; empty when there is none. */
  error: string;
  cancelled: boolean;
  parts: Map<string, Part>;
  warnings: Warning[];
  log: StepLog;
  intervals: Interval[];
  /** Members by digest, when the step stands for a progress group. */
  members: Map<string, Vertex> | undefined;
  /** A group none of whose weightier members has begun is not shown. */
  hidden: boolean;
  /** Whether its times are the local clock's: something this program does itself. */
  local: boolean;
}

/** How a {@link Trace} keeps logs. */
export interface TraceOptions {
  /** Lines kept of each step, for the report of a failure. */
  keepLines: number;
  /** Whether the renderer takes each line once (see `StepLog.take`). */
  freshLines: boolean;
  /** Milliseconds now. */
  now: () => number;
}

/** A step's parts are cut at this number: a step with more (a bake's layers) shows the first ones. */
const mostParts = 500;

/** The end of a cancelled step's error, the only sign of it on the wire: BuildKit's own display (util/progress/progressui) looks for it too. */
export const cancelledError = 'context canceled';

/** What has happened so far in a solve, step by step, gathered from its status messages. */
export class Trace {
  /** Steps in the order in which they began. */
  readonly steps: Step[] = [];
  /** Steps touched since the renderer last emptied it. */
  readonly changed = new Set<Step>();
  /** When the first step began, by the local clock. */
  startedMs: number | undefined;
  /** Local clock minus the builder's, set by the builder's first step. */
  #offsetMs: number | undefined;
  readonly #byDigest = new Map<string, Step>();
  readonly #warned = new Set<string>();
  readonly #options: TraceOptions;

  constructor(options: TraceOptions) {
    this.#options = options;
  }

  /** Takes in one status message. Its times are the builder's clock, or the `local` one. */
  add(status: SolveStatus, clock: 'builder' | 'local' = 'builder'): void {
    for (const vertex of status.vertexes ?? []) this.#addVertex(vertex, clock === 'local');
    for (const part of status.statuses ?? []) this.#addPart(part);
    for (const warning of status.warnings ?? []) this.#addWarning(warning);
    for (const log of status.logs ?? []) {
      const step = this.#byDigest.get(log.vertex);
      if (!step) continue;
      step.log.add(Buffer.from(log.data, 'base64'), Math.max(0, Date.parse(log.timestamp) - firstStart(step)));
      this.changed.add(step);
    }
  }

  /** Steps known and completed, BuildKit's own with them, hidden groups left out. */
  counts(): { total: number; completed: number } {
    const steps = new Set(this.#byDigest.values());
    let total = 0;
    let completed = 0;
    for (const step of steps) {
      if (step.hidden) continue;
      total++;
      if (isCompleted(step)) completed++;
    }
    return { total, completed };
  }

  /** The build's own steps, as `StepCounts` has them, and how many of them were cached. */
  ownCounts(): { total: number; cached: number } {
    const steps = [...new Set(this.#byDigest.values())].filter(
      (step) => !step.hidden && !step.local && !isBuildKitStep(step.name),
    );
    return { total: steps.length, cached: steps.filter((step) => step.cached).length };
  }

  /** Milliseconds a step has run so far. */
  elapsedMs(step: Step): number {
    return spanOf(step.intervals, this.builderNow(step));
  }

  /** Milliseconds now, by the clock of the step's times. */
  builderNow(step: Step): number {
    return this.#options.now() - (step.local ? 0 : (this.#offsetMs ?? 0));
  }

  /** Milliseconds since the first step began; of a build that is only watched now, what its steps took. */
  totalMs(): number {
    return this.startedMs === undefined ? 0 : Math.max(this.#options.now() - this.startedMs, this.#stepsMs());
  }

  /** From the builder's first beginning to its last end. */
  #stepsMs(): number {
    let first = Number.POSITIVE_INFINITY;
    let last = 0;
    for (const { local, intervals } of this.steps) {
      if (local) continue;
      for (const { start, stop = start } of intervals) {
        first = Math.min(first, start);
        last = Math.max(last, stop);
      }
    }
    return Math.max(0, last - first);
  }

  /** The steps that failed, in their order; those cancelled because of another and this program's own are left out. */
  failed(): Step[] {
    return this.steps.filter((step) => step.error !== '' && !step.cancelled && !step.local);
  }

  /** Every warning, once. */
  warnings(): Warning[] {
    return this.steps.flatMap((step) => step.warnings);
  }

  #addVertex(vertex: Vertex, local: boolean): void {
    const group = vertex.progressGroup;
    const step = this.#stepOf(group?.id ?? vertex.digest, group?.name ?? vertex.name, group !== undefined);
    this.#byDigest.set(vertex.digest, step);
    step.local = local;
    if (step.members) {
      step.members.set(vertex.digest, vertex);
      if (vertex.started && !group?.weak) step.hidden = false;
      const members = [...step.members.values()];
      step.cached = members.every((member) => member.cached);
      this.#setError(step, members.find((member) => member.error)?.error);
    } else if (vertex.started || step.index === 0) {
      // The same vertex comes again from later solves of the same build, not begun; that must not reset it.
      step.name = vertex.name;
      step.cached = vertex.cached ?? false;
      this.#setError(step, vertex.error);
    }
    if (!vertex.started) return;
    addInterval(
      step.intervals,
      Date.parse(vertex.started),
      vertex.completed ? Date.parse(vertex.completed) : undefined,
    );
    this.#begin(step);
    this.changed.add(step);
  }

  #begin(step: Step): void {
    const now = this.#options.now();
    this.startedMs ??= now;
    if (!step.local) this.#offsetMs ??= now - firstStart(step);
    if (step.index > 0 || step.hidden) return;
    this.steps.push(step);
    step.index = this.steps.length;
  }

  #setError(step: Step, error: string | undefined): void {
    step.error = error ?? '';
    step.cancelled = step.error.endsWith(cancelledError);
    if (step.error !== '' && step.hidden) step.hidden = false;
  }

  #stepOf(digest: string, name: string, group: boolean): Step {
    const known = this.#byDigest.get(digest);
    if (known) return known;
    const { keepLines, freshLines } = this.#options;
    const step: Step = {
      digest,
      name,
      index: 0,
      cached: false,
      error: '',
      cancelled: false,
      parts: new Map(),
      warnings: [],
      log: new StepLog(keepLines, freshLines),
      intervals: [],
      members: group ? new Map() : undefined,
      hidden: group,
      local: false,
    };
    this.#byDigest.set(digest, step);
    return step;
  }

  #addPart(status: VertexStatus): void {
    const step = this.#byDigest.get(status.vertex);
    if (!step || (step.parts.size >= mostParts && !step.parts.has(status.id))) return;
    step.parts.set(status.id, {
      id: status.id,
      current: status.current,
      total: status.total ?? 0,
      startedMs: status.started ? Date.parse(status.started) : undefined,
      completedMs: status.completed ? Date.parse(status.completed) : undefined,
      updatedMs: Date.parse(status.timestamp),
    });
    this.changed.add(step);
  }

  #addWarning(warning: VertexWarning): void {
    const step = this.#byDigest.get(warning.vertex);
    const short = decode(warning.short);
    const key = `${warning.vertex} ${short}`;
    if (!step || this.#warned.has(key)) return;
    this.#warned.add(key);
    step.warnings.push({ short, detail: (warning.detail ?? []).map(decode), url: warning.url ?? '' });
    this.changed.add(step);
  }
}

/** Whether a step has begun and nothing of it runs. */
export function isCompleted(step: Step): boolean {
  return step.intervals.length > 0 && step.intervals.every((interval) => interval.stop !== undefined);
}

/** When a step completed last, by the builder's clock. */
export function completedAt(step: Step): number {
  return Math.max(...step.intervals.map((interval) => interval.stop ?? Number.POSITIVE_INFINITY));
}

function firstStart(step: Step): number {
  return Math.min(...step.intervals.map((interval) => interval.start));
}

function decode(base64: string | undefined): string {
  return Buffer.from(base64 ?? '', 'base64').toString();
}
