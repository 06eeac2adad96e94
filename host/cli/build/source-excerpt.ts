import type { SourceExcerpt__Output } from '../../../common/generated/types/buildvisor/v1/SourceExcerpt.ts';

const rule = '-'.repeat(20);

/** The failing lines of a Dockerfile and some around them, as buildctl prints them (BuildKit's solver/errdefs/source.go, Print). */
export function formatSource({ file, firstLine, lastLine, excerptLine, excerpt }: SourceExcerpt__Output): string {
  const end = excerptLine + excerpt.length - 1;
  const wanted = firstLine === lastLine ? 4 : 2;
  let [from, to] = [firstLine, lastLine];
  for (let added = 0; added < wanted; added++) {
    if (from > excerptLine) [from, added] = [from - 1, added + 1];
    if (to < end) [to, added] = [to + 1, added + 1];
  }
  const lines = excerpt.slice(from - excerptLine, to - excerptLine + 1).map((line, index) => {
    const number = from + index;
    const mark = number >= firstLine && number <= lastLine ? '>>>' : '   ';
    return ` ${String(number).padStart(3)} | ${mark} ${line}`;
  });
  if (to > end) lines.push(`(${to - end} more lines were left out)`);
  return [`${file}:${firstLine}`, rule, ...lines, rule].join('\n');
}
