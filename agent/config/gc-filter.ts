import { closest, quote } from './words.ts';

/** Kinds of cache records, as buildkitd's filters name them (client/diskusage.go, UsageRecordType). */
export const recordTypes = [
  'regular',
  'source.local',
  'source.git.checkout',
  'exec.cachemount',
  'frontend',
  'internal',
] as const;

const valued = ['id', 'description', 'type'];
const bare = ['mutable', 'immutable', 'shared', 'private'];
// Part of the grammar in containerd's pkg/filters/parser.go: quoted values without escapes, unquoted ones that cannot be
// taken for a quote or an operator.
const selector = /^([a-z]+)(?:(==|!=|~=)("[^"\\\n]*"|[A-Za-z0-9_:@+^([*-][^\s,"]*))?$/;

/**
 * Says what is wrong with a filter of a GC rule, or `undefined`. buildkitd checks filters only when it collects, and then
 * the whole collection fails; a value that never matches (`mutable==true`) it takes silently. So both are found here.
 * Fields are those that are filled in for GC (cache/manager.go, pruneOnce): `parents` and `inuse` never are.
 */
export function filterProblem(filter: string): string | undefined {
  if (filter === '') return 'is empty; leave `filters` out to match every record';
  for (const part of splitSelectors(filter)) {
    const match = selector.exec(part);
    if (!match) return `${quote(part)} is not a selector such as type==regular`;
    const problem = selectorProblem(match[1] ?? '', match[2], (match[3] ?? '').replaceAll('"', ''));
    if (problem) return problem;
  }
  return undefined;
}

function selectorProblem(field: string, operator: string | undefined, value: string): string | undefined {
  if (bare.includes(field)) return operator ? `${quote(field)} takes no value; write it alone` : undefined;
  if (!valued.includes(field)) {
    const near = closest(field, [...valued, ...bare]);
    return `${quote(field)} is not a field GC knows${near ? `; did you mean ${quote(near)}?` : `; known: ${[...valued, ...bare].join(', ')}`}`;
  }
  if (operator === '~=') return regexProblem(value);
  if (field !== 'type' || !operator || recordTypes.some((known) => known === value)) return undefined;
  const near = closest(value, recordTypes);
  return `${quote(value)} is not a type${near ? `; did you mean ${quote(near)}?` : ''} Known: ${recordTypes.join(', ')}`;
}

/** Go's RE2 takes most of what JavaScript takes, but no look-around, back references or named groups of its form. */
function regexProblem(source: string): string | undefined {
  if (/\(\?(?!:)|\\[1-9kpPux]/.test(source)) return `${quote(source)} uses what Go's regular expressions lack`;
  try {
    new RegExp(source, 'u');
    return undefined;
  } catch (error) {
    return `${quote(source)} is not a regular expression: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Splits at commas outside of double quotes. */
function splitSelectors(filter: string): string[] {
  return filter.match(/(?:[^,"]|"[^"]*"|")+|(?<=,)(?=,|$)|^(?=,)/g) ?? [''];
}
