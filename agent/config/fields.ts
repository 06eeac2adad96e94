import * as z from 'zod/mini';
import { isBuildvisorError } from '../../common/errors.ts';
import { parseScope, type Scope } from '../../common/scope.ts';
import { parseBytes, parseDuration } from '../../common/units.ts';
import { closest, quote } from './words.ts';

/** What the reference says of a key: what it takes, what it does, its default as it would be written. */
export interface Notes {
  takes: string;
  about: string;
  fallback?: string;
}

/** Notes of every field and table, read by the reference's generator. */
export const notes = z.registry<Notes>();

/** Part of a volume: a number of bytes, or a percentage of the whole. */
export type Share = { bytes: number } | { percent: number };

/** Reads a TOML value; gives `undefined` when it does not fit, having said why if there is more to say than what fits. */
type Read<T> = (value: unknown, say: (why: string) => void) => T | undefined;

/** A leaf of the schema with its own reader. Every field below is one. */
function field<T>(what: Notes, read: Read<T>) {
  const reader = z.transform((value: unknown, context): T => {
    let why: string | undefined;
    const got =
      value === undefined
        ? undefined
        : read(value, (said) => {
            why = said;
          });
    if (got !== undefined) return got;
    const start = value === undefined ? 'missing; ' : '';
    context.issues.push({ code: 'custom', message: why ?? `${start}expected ${what.takes}`, input: value });
    return z.NEVER;
  });
  return z.pipe(z.unknown(), reader).register(notes, what);
}

/** A field that may be left out. */
export function optional<T extends z.core.$ZodType>(schema: T): z.ZodMiniOptional<T> {
  return z.optional(schema);
}

/** A field with a default, `written` as it would stand in the file. */
export function withDefault<T extends z.core.$ZodType>(
  schema: T,
  value: z.util.NoUndefined<z.core.output<T>>,
  written: string,
): z.ZodMiniDefault<T> {
  const what = notes.get(schema);
  if (what) notes.add(schema, { ...what, fallback: written });
  return z._default(schema, value);
}

/** A table of fixed keys; any other key is refused. Left out, it is the empty table, so that defaults inside apply. */
export function table<S extends z.core.$ZodLooseShape>(about: string, shape: S, check?: TableCheck<S>) {
  const strict = z.strictObject(shape).register(notes, { takes: 'a table', about });
  const checked = check ? strict.check((context) => reportChecks(context, check)) : strict;
  return z.prefault(checked, {} as never);
}

/** Finds what is wrong between the keys of one table: gives the key and the sentence. */
export type TableCheck<S extends z.core.$ZodLooseShape> = (
  value: z.core.output<z.ZodMiniObject<S, z.core.$strict>>,
) => Iterable<[key: string, why: string]>;

function reportChecks<V>(
  context: z.core.ParsePayload<V>,
  check: (value: V) => Iterable<[key: string, why: string]>,
): void {
  for (const [key, message] of check(context.value))
    context.issues.push({ code: 'custom', path: [key], message, input: context.value });
}

/** Text that `fits`. */
export function text(about: string, takes: string, fits: RegExp | ((value: string) => boolean) = () => true) {
  const test = fits instanceof RegExp ? (value: string) => fits.test(value) : fits;
  return field({ about, takes }, (value) => (typeof value === 'string' && test(value) ? value : undefined));
}

/** A scope. */
export function scope(about: string) {
  const takes = 'a scope such as "acme/app/main"';
  return field<Scope>({ about, takes }, (value, say) => {
    if (typeof value !== 'string') return undefined;
    try {
      return parseScope(value);
    } catch (error) {
      if (!isBuildvisorError(error)) throw error;
      say(`${error.message}. ${error.hint ?? ''}`.trim());
      return undefined;
    }
  });
}

/** `true` or `false`. */
export function flag(about: string) {
  return field({ about, takes: 'true or false' }, (value) => (typeof value === 'boolean' ? value : undefined));
}

/** A whole number within bounds, both included. */
export function count(about: string, min: number, max: number) {
  const takes = `a whole number from ${min} to ${max}`;
  return field({ about, takes }, (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max ? value : undefined,
  );
}

/** One of `values`. Those of `later` are known words which this version cannot honour yet. */
export function choice<const V extends string>(about: string, values: readonly V[], later: readonly string[] = []) {
  const takes = `one of ${values.map(quote).join(', ')}`;
  return field<V>({ about, takes }, (value, say) => {
    const found = values.find((known) => known === value);
    if (found === undefined && typeof value === 'string') {
      const near = closest(value, values);
      if (later.includes(value)) say(`${quote(value)} ${notYet}; use ${takes}`);
      else if (near) say(`${quote(value)} is not known; did you mean ${quote(near)}? Expected ${takes}`);
    }
    return found;
  });
}

/** A key that is known but that this version cannot honour yet: refused whatever its value, so that nobody relies on it. */
export function later(about: string) {
  const takes = 'nothing yet';
  return field<never>({ about: `${about} **Not in this version**: refused.`, takes }, (_value, say) => {
    say(`${notYet}; remove it`);
    return undefined;
  });
}

/** A key of a foreign schema which may not be set here, with the reason. */
export function refused(why: string) {
  return field<never>({ about: why, takes: 'nothing' }, (_value, say) => {
    say(`cannot be set here: ${why}`);
    return undefined;
  });
}

const notYet = 'is not supported by this version of buildvisor yet';

/** Bounds of a duration in milliseconds or of a size in bytes, and words that stand for a number. */
interface Bounds {
  min?: number;
  max?: number;
  words?: Record<string, number>;
}

/** A duration in milliseconds, at most ten years. */
export function duration(
  about: string,
  example: string,
  { min = 0, max = Number.MAX_SAFE_INTEGER, words = {} }: Bounds = {},
) {
  const atMost = max < Number.MAX_SAFE_INTEGER ? ` and at most ${max / 1000} s` : '';
  const takes = `a duration${min > 0 ? ` of at least ${min / 1000} s` : ''}${atMost} such as ${quote(example)}${orWords(words)}`;
  return field({ about, takes }, (value) => {
    if (typeof value !== 'string') return undefined;
    if (Object.hasOwn(words, value)) return words[value];
    const ms = parseDuration(value);
    return ms !== undefined && ms >= min && ms <= max ? ms : undefined;
  });
}

/** A size in bytes. */
export function size(about: string, example: string, { min = 0, max = Number.MAX_SAFE_INTEGER, words = {} }: Bounds) {
  const atLeast = min > 0 ? `, at least ${min} bytes` : '';
  const atMost = max < Number.MAX_SAFE_INTEGER ? `, at most ${max} bytes` : '';
  const takes = `a size such as ${quote(example)} or a number of bytes${atLeast}${atMost}${orWords(words)}`;
  return field({ about, takes }, (value) => {
    if (typeof value === 'string' && Object.hasOwn(words, value)) return words[value];
    const bytes = toBytes(value);
    return bytes !== undefined && bytes >= min && bytes <= max ? bytes : undefined;
  });
}

/** A part of the volume: bytes or a percentage; above zero unless `zero`. */
export function share(about: string, zero = false) {
  const takes = `a size such as "20GB", a number of bytes, or a percentage of the volume from ${zero ? 0 : 1}% to 100%`;
  return field<Share>({ about, takes }, (value) => {
    const percentage = typeof value === 'string' ? /^(\d{1,3}(?:\.\d{1,3})?)%$/.exec(value)?.[1] : undefined;
    const percent = Number(percentage);
    if (percentage !== undefined) return percent <= 100 && (zero || percent >= 1) ? { percent } : undefined;
    const bytes = toBytes(value);
    return bytes !== undefined && (zero || bytes >= 1_000_000) ? { bytes } : undefined;
  });
}

/** A percentage above zero. */
export function percentage(about: string) {
  const takes = 'a percentage from 1% to 100%';
  return field<number>({ about, takes }, (value) => {
    const percent = Number(typeof value === 'string' ? /^(\d{1,3}(?:\.\d{1,3})?)%$/.exec(value)?.[1] : undefined);
    return percent >= 1 && percent <= 100 ? percent : undefined;
  });
}

/** A list without repetitions of at most `max` items. */
export function list<T extends z.core.$ZodType>(about: string, item: T, max = 100) {
  const takes = `a list; each item: ${notes.get(item)?.takes ?? 'a table'}`;
  return z
    .array(item)
    .check((context) => {
      const seen = new Set<string>();
      for (const [index, value] of context.value.entries()) {
        const key = JSON.stringify(value);
        if (seen.has(key))
          context.issues.push({ code: 'custom', path: [index], message: 'is there twice', input: value });
        seen.add(key);
      }
      if (context.value.length > max)
        context.issues.push({ code: 'custom', message: `has more than ${max} items`, input: context.value });
    })
    .register(notes, { about, takes });
}

function toBytes(value: unknown): number | undefined {
  if (typeof value === 'string') return parseBytes(value);
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : undefined;
}

function orWords(words: Record<string, number>): string {
  return Object.keys(words)
    .map((word) => `, or ${quote(word)}`)
    .join('');
}
