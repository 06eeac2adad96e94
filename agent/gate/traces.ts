import { createHash } from 'node:crypto';
import { keepNewest } from '../../common/keep-newest.ts';
import type { HeaderField } from './call.ts';

/** Most traces that are remembered; the one that was not used for longest is forgotten first. */
const mostTraces = 4096;
const header = 'traceparent';
/** W3C Trace Context, 3.2.2: version, trace id, parent id, flags; later versions may add more. */
const traceparent = /^([0-9a-f]{2})-([0-9a-f]{32})-(.*)$/;

interface Trace {
  /** The build that keeps the trace's own id. */
  first: string;
  /** Whether it has other builds too. */
  several: boolean;
}

/**
 * Gives each build of a trace a trace id of its own. After each solve buildkitd writes all spans of the solve's trace into its
 * history (solver/llbsolver/history.go, recordBuildHistory), and one `bake` is one trace: each record would hold the whole bake
 * so far. The first build of a trace keeps its id, so that a build alone keeps its whole trace.
 */
export class Traces {
  readonly #traces = new Map<string, Trace>();

  /** The header fields of a call that belongs to a build, with that build's trace id: steps are known by it. */
  of(ref: string, headers: readonly HeaderField[]): HeaderField[] {
    if (traceIdOf(headers) === undefined)
      return [...headers.filter(([name]) => name !== header), [header, ownTrace(ref)]];
    return headers.map((field) => (field[0] === header ? [header, this.#rename(ref, field[1])] : field));
  }

  /** The header fields of a call that belongs to no build: without a trace that has several, which would grow for ever. */
  ofNone(headers: HeaderField[]): HeaderField[] {
    const id = traceIdOf(headers);
    return id !== undefined && this.isSplit(id) ? headers.filter(([name]) => name !== header) : headers;
  }

  /** Whether a trace has several builds. @param id 32 lower-case hex digits */
  isSplit(id: string): boolean {
    return this.#traces.get(id)?.several === true;
  }

  #rename(ref: string, value: string): string {
    const [, version, id, rest] = traceparent.exec(value) ?? [];
    if (id === undefined) return value;
    const trace = this.#use(id, ref);
    return trace.first === ref ? value : `${version}-${idOf(id, ref)}-${rest}`;
  }

  #use(id: string, ref: string): Trace {
    const trace = this.#traces.get(id) ?? { first: ref, several: false };
    if (trace.first !== ref) trace.several = true;
    this.#traces.delete(id);
    this.#traces.set(id, trace);
    keepNewest(this.#traces, mostTraces);
    return trace;
  }
}

/** Trace id of a call as its client sent it, 32 lower-case hex digits. */
export function traceIdOf(headers: readonly HeaderField[]): string | undefined {
  return traceparent.exec(headers.find(([name]) => name === header)?.[1] ?? '')?.[2];
}

/** A trace for a build whose client has none; recorded, as buildkitd would do with one that it makes itself. */
function ownTrace(ref: string): string {
  const id = idOf('', ref);
  return `00-${id}-${id.slice(0, 16)}-01`;
}

/** The same for every call of a build, without being kept. All zeros, which is invalid, takes 2^128 builds. */
function idOf(trace: string, ref: string): string {
  return createHash('sha256').update(`${trace} ${ref}`).digest('hex').slice(0, 32);
}
