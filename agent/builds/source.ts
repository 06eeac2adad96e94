import type { SourceExcerpt } from '../../common/generated/types/buildvisor/v1/SourceExcerpt.ts';

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
}

/** Cuts the excerpt from a whole `errdefs.Source`; undefined when it names no lines that are there. */
export function readSource(json: unknown): Source | undefined {
  const { info, ranges } = (json ?? {}) as SourceJson;
  if (typeof info?.data !== 'string' || !Array.isArray(ranges)) return undefined;
  const lines = Buffer.from(info.data, 'base64').toString().split('\n');
  const spans = ranges.map(({ start, end }) => [start?.line ?? 0, Math.max(end?.line ?? 0, start?.line ?? 0)] as const);
  const firstLine = Math.min(...spans.map(([first]) => first));
  const lastLine = Math.min(Math.max(...spans.map(([, last]) => last)), lines.length);
  if (!(firstLine >= 1 && firstLine <= lastLine)) return undefined;
  const excerptLine = Math.max(1, firstLine - around);
  const excerpt = lines.slice(excerptLine - 1, Math.min(lastLine + around, excerptLine - 1 + most.lines));
  return {
    file: typeof info.filename === 'string' ? info.filename : '',
    firstLine,
    lastLine,
    excerptLine,
    excerpt: excerpt.map((line) => line.slice(0, most.characters)),
  };
}
