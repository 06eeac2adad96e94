import { layersBelow } from '../../../common/dockerfile/depth.ts';
import { LeanJson } from './lean-json.ts';
import { keepLines, type Lines } from './source-lines.ts';
import type { Detail } from './status-message.ts';

/** Up to this a detail passes as it is, in bytes; what has no source file in it passes up to the second. */
const small = { any: 16 * 1024, other: 1024 ** 2 };
/** Most ranges of a source whose lines are not there. */
const mostRanges = 100;
/** Longest file whose layers are counted, in bytes of base64: its lines are strings for a moment. */
const mostCounted = 4 * 1024 ** 2;
/** How deep sources are looked for. */
const deepest = 32;

/** What clients show a file's lines from (BuildKit's solver/errdefs/errdefs.proto, Source; solver/pb/ops.proto, SourceInfo and Range). */
interface Source {
  info: { filename?: unknown; data?: unknown; definition?: unknown };
  ranges: { start?: Position; end?: Position }[];
}

interface Position {
  line?: number;
  character?: number;
}

/**
 * Makes a detail short: files in it keep the lines that are meant, with their numbers, and what is around them; copies of files without
 * ranges go. @returns undefined when it is too long all the same, or nothing we know
 */
export function shortenDetail({ type, value }: Detail): Detail | undefined {
  if (value.length <= small.any) return { type, value };
  const shorter = type.endsWith('+json') ? shortenJson(value) : value;
  return shorter !== undefined && (isSource(type) || shorter.length <= small.other)
    ? { type, value: shorter }
    : undefined;
}

/** Whether a detail is one that carries a file. */
export function isSource(type: string): boolean {
  return type.endsWith('/errdefs.Source+json');
}

function shortenJson(json: Buffer): Buffer | undefined {
  try {
    const lean = new LeanJson(json);
    return lean.write(withoutFiles(lean.value, lean, 0));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function withoutFiles(value: unknown, lean: LeanJson, depth: number): unknown {
  if (typeof value !== 'object' || value === null || depth > deepest) return value;
  if (Array.isArray(value)) return value.map((item) => withoutFiles(item, lean, depth + 1));
  if (hasSource(value)) return shortenSource(value, lean);
  const entries = Object.entries(value).filter(
    ([key]) => key !== 'data' || !('filename' in value) || !isLong(value, lean),
  );
  return Object.fromEntries(entries.map(([key, item]) => [key, withoutFiles(item, lean, depth + 1)]));
}

function isLong(value: object, lean: LeanJson): boolean {
  return 'data' in value && lean.longString(value.data) !== undefined;
}

function hasSource(value: object): value is Source {
  if (!('info' in value && 'ranges' in value)) return false;
  return typeof value.info === 'object' && value.info !== null && Array.isArray(value.ranges);
}

function shortenSource(source: Source, lean: LeanJson): unknown {
  // What the file was made from is of no use without the file, and may itself hold files.
  const { data, definition: _definition, ...info } = source.info;
  const ranges = joinRanges(source.ranges);
  const base64 = lean.longString(data) ?? (typeof data === 'string' ? Buffer.from(data) : undefined);
  const shorter = base64 && keepLines(base64, spanOf(ranges));
  if (shorter === undefined) return { ...source, info, ranges: ranges.slice(0, mostRanges) };
  const { last } = shorter.kept;
  const kept = ranges.filter(({ start }) => (start?.line ?? 0) <= last);
  for (const range of kept) if ((range.end?.line ?? 0) > last) range.end = { line: last };
  const short = { ...source, info: { ...info, data: shorter.data.toString('base64') }, ranges: kept };
  // Clients do not know these; the build's own record does (agent/builds/source.ts, depth.ts).
  const below = base64 && layersOf(base64, spanOf(ranges).first);
  return {
    ...short,
    ...(shorter.wholeLast > last && { wholeLast: shorter.wholeLast }),
    ...(below && { layersBelow: below }),
  };
}

/** What the instruction in a line stands on, for a build's own record: that takes the whole file, which goes here. */
function layersOf(base64: Buffer, line: number): ReturnType<typeof layersBelow> {
  if (base64.length > mostCounted) return undefined;
  return layersBelow(Buffer.from(base64.toString('latin1'), 'base64').toString(), line);
}

function spanOf(ranges: Source['ranges']): Lines {
  const span = { first: Number.POSITIVE_INFINITY, last: 0 };
  for (const { start, end } of ranges) {
    span.first = Math.min(span.first, start?.line ?? 0);
    span.last = Math.max(span.last, start?.line ?? 0, end?.line ?? 0);
  }
  return span;
}

/** Ranges of which none goes on where another ends: a heredoc has one for each of its lines. */
function joinRanges(ranges: Source['ranges']): Source['ranges'] {
  const joined: Source['ranges'] = [];
  for (const { start, end } of ranges) {
    const last = joined.at(-1);
    const to = (end?.line ?? 0) < (start?.line ?? 0) ? start : end;
    if (last && start?.line === (last.end?.line ?? 0) + 1) last.end = { ...to };
    else joined.push({ start: { ...start }, end: { ...to } });
  }
  return joined;
}
