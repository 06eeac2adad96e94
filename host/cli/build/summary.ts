import { relative } from 'node:path';
import type { Scope } from '../../../common/scope.ts';
import { formatBytes } from '../../../common/units.ts';
import type { ProgressMode } from '../progress/progress.ts';
import type { WrittenOutput } from './output-files.ts';
import type { OutputSpec } from './outputs.ts';

/** What a passed build has to tell. */
export interface Summary {
  scope: Scope;
  specs: readonly OutputSpec[];
  written: readonly WrittenOutput[];
  digest: string;
  tags: readonly string[];
  mode: ProgressMode;
}

/** The last lines of a passed build: where the results are. Quiet mode prints the image's digest on stdout and nothing else. */
export function summaryLines(summary: Summary): { text: string; stdout?: boolean }[] {
  const { specs, written, digest, tags, mode } = summary;
  if (mode === 'rawjson') return [];
  const stdoutTaken = specs.some((spec) => spec.dest === '-');
  if (mode === 'quiet') return digest && !stdoutTaken ? [{ text: digest, stdout: true }] : [];
  if (specs.length === 0) {
    const tagged = tags.length > 0 ? ', and no tag is kept' : '';
    const ways = '--output type=oci,dest=FILE, --output DIR or --push';
    return [{ text: `note: the result is only in the cache of ${summary.scope}${tagged}; ${ways} takes it out` }];
  }
  const lines = written.map(({ spec, path, bytes }) => {
    const size = bytes === undefined ? '' : ` (${formatBytes(bytes)})`;
    return { text: `${spec.type}: ${shortPath(path)}${size}` };
  });
  for (const spec of specs) {
    if (spec.type === 'image' && spec.attributes.push === 'true')
      lines.push({ text: `pushed: ${spec.attributes.name}` });
  }
  if (digest) lines.push({ text: `digest: ${digest}` });
  return lines;
}

/** The path as a person would type it from here. */
function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short === '' || short.startsWith('..') ? path : short;
}
