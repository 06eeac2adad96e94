import type { SourceExcerpt } from '../../common/generated/types/buildvisor/v1/SourceExcerpt.ts';
import { readLines } from '../gate/errors/source-lines.ts';

/** The lines a failure comes from, as the result carries them. */
export type Source = SourceExcerpt;

/** Lines around those that are meant, as many as the clients print (solver/errdefs/source.go, Print: four in all), and to spare. */
const around = 4;
/** Most lines of an excerpt, and characters of each. */
const most = { lines: 50, characters: 1000 };

/** BuildKit's `errdefs.Source` as JSON: a file's bytes as base64, and lines counted from 1. */
interface SourceJson {
  info?: { filename?: unknown; data?: unknown };
  ranges?: { start?: { line?: number }; end?: { line?: number } }[];
  /** Where the gate left lines out of the ranges: the last one. */
  wholeLast?: unknown;
}

/** Cuts the excerpt from an `errdefs.Source`; undefined when it names no lines that are there. */
export function readSource(json: unknown): Source | undefined {
  const { info, ranges, wholeLast } = (json ?? {}) as SourceJson;
  if (typeof info?.data !== 'string' || !Array.isArray(ranges) || ranges.length === 0) return undefined;
  let firstLine = Number.POSITIVE_INFINITY;
  let lastLine = typeof wholeLast === 'number' ? wholeLast : 0;
  for (const { start, end } of ranges) {
    firstLine = Math.min(firstLine, start?.line ?? 0);
    lastLine = Math.max(lastLine, start?.line ?? 0, end?.line ?? 0);
  }
  if (!(firstLine >= 1 && firstLine <= lastLine)) return undefined;
  const excerptLine = Math.max(1, firstLine - around);
  const to = Math.min(lastLine + around, excerptLine + most.lines - 1);
  const excerpt = readLines(Buffer.from(info.data, 'latin1'), excerptLine, to);
  if (excerpt.length <= firstLine - excerptLine) return undefined;
  return {
    file: typeof info.filename === 'string' ? info.filename : '',
    firstLine,
    // A file that ends before the lines do.
    lastLine: excerpt.length < to - excerptLine + 1 ? Math.min(lastLine, excerptLine + excerpt.length - 1) : lastLine,
    excerptLine,
    excerpt: excerpt.map((line) => line.toString().slice(0, most.characters)),
  };
}
