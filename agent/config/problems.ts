import type * as z from 'zod/mini';
import type { KeyPath } from './positions.ts';
import { schema } from './schema.ts';
import { closest, quote } from './words.ts';

/** One thing that is wrong with a config: the key's path as it would be written, its line if known, a sentence. */
export interface Problem {
  path: string;
  line?: number;
  message: string;
}

/**
 * What zod found, for a person: unknown keys one by one with the key that was probably meant, values as they stand.
 * @param document the TOML document that was checked
 * @param lineOf gives the line of a path in its text
 */
export function toProblems(
  issues: readonly z.core.$ZodIssue[],
  document: unknown,
  lineOf: (path: KeyPath) => number | undefined,
): Problem[] {
  const problems = issues.flatMap((issue) => {
    const path = issue.path as (string | number)[];
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((key) => problem([...path, key], unknownKey(path, key), lineOf));
    return [problem(path, describe(issue, valueAt(document, path)), lineOf)];
  });
  return problems.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
}

function problem(path: KeyPath, message: string, lineOf: (path: KeyPath) => number | undefined): Problem {
  const line = lineOf(path);
  return { path: formatPath(path), message, ...(line === undefined ? {} : { line }) };
}

/** A path as TOML writes it: `gc.rule[0].filters`, `registry."docker.io".http`. */
function formatPath(path: KeyPath): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      const key = /^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part);
      return index === 0 ? key : `.${key}`;
    })
    .join('');
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code === 'invalid_type')
    return `${show(value)} is not ${issue.expected === 'array' ? 'a list' : 'a table'}`;
  return value === undefined || !/^expected /.test(issue.message)
    ? issue.message
    : `${show(value)} is not right; ${issue.message}`;
}

/** A value as it was given, shortened. */
function show(value: unknown): string {
  if (typeof value === 'string') return quote(value);
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Date) return 'a date';
  return typeof value === 'object' && value !== null ? 'a table' : String(value);
}

function valueAt(document: unknown, path: KeyPath): unknown {
  let value = document;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

function unknownKey(path: KeyPath, key: string): string {
  const known = knownKeys(path);
  const near = closest(key, known);
  if (near) return `unknown key; did you mean ${quote(near)}?`;
  const elsewhere = path.length === 0 ? undefined : Object.keys(schema.shape).find((name) => name === key);
  if (elsewhere) return `unknown key here; [${key}] stands at the top level`;
  return known.length > 0 ? `unknown key; known here: ${known.join(', ')}` : 'unknown key';
}

/** Keys the schema has at a path. */
function knownKeys(path: KeyPath): string[] {
  let at: z.core.$ZodType = schema;
  for (const part of path) at = childOf(unwrap(at), part) ?? at;
  const { def } = (unwrap(at) as z.core.$ZodObject)._zod;
  return def.type === 'object' ? Object.keys(def.shape) : [];
}

function childOf(parent: z.core.$ZodType, part: string | number): z.core.$ZodType | undefined {
  const { def } = (parent as z.core.$ZodTypes)._zod;
  if (def.type === 'object') return def.shape[String(part)];
  if (def.type === 'array') return def.element;
  return def.type === 'record' ? def.valueType : undefined;
}

/** The schema within `optional`, `default` and `prefault`. */
export function unwrap(outer: z.core.$ZodType): z.core.$ZodType {
  const { def } = (outer as z.core.$ZodTypes)._zod;
  return def.type === 'optional' || def.type === 'default' || def.type === 'prefault' ? unwrap(def.innerType) : outer;
}
