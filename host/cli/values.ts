/** Values of options. Each parser gives the value or throws commander's error, which names the option. */
import { InvalidArgumentError } from 'commander';
import { isBuildvisorError } from '../../common/errors.ts';
import { parseScope, type Scope } from '../../common/scope.ts';
import { parseBytes, parseDuration } from '../../common/units.ts';
import type { CacheKind } from '../client/types.ts';

const cacheKinds: readonly CacheKind[] = ['layers', 'sources', 'cache-mounts', 'internal'];

/** A scope such as `acme/app/main`. */
export function scopeValue(text: string): Scope {
  try {
    return parseScope(text);
  } catch (error) {
    if (isBuildvisorError(error)) throw new InvalidArgumentError(`${error.message}. ${error.hint ?? ''}`.trim());
    throw error;
  }
}

/** A size above zero, in bytes. */
export function sizeValue(text: string): number {
  const bytes = parseBytes(text);
  if (bytes) return bytes;
  throw new InvalidArgumentError('A size is a number with a unit, for example 2GiB.');
}

/** A duration in milliseconds. */
export function durationValue(text: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined) return ms;
  throw new InvalidArgumentError('A duration is a number with a unit, for example 90s or 10m.');
}

/** A whole number from 1 to 1024. */
export function countValue(text: string): number {
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= 1024) return count;
  throw new InvalidArgumentError('A whole number from 1 to 1024 is expected.');
}

/** A whole number from 0 on. */
export function numberValue(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A whole number is expected.');
}

/** Adds to a list. */
export function listValue(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

/** Adds `KEY=VALUE` to a record; `KEY` alone takes the value from the environment, and nothing when it is not set there. */
export function argumentValue(text: string, before: Record<string, string> | undefined): Record<string, string> {
  const [key, value] = split(text);
  const set = value ?? process.env[key];
  return set === undefined ? { ...before } : { ...before, [key]: set };
}

/** Adds `KEY=VALUE` to a record; `KEY` alone is an empty value. */
export function labelValue(text: string, before: Record<string, string> | undefined): Record<string, string> {
  const [key, value] = split(text);
  return { ...before, [key]: value ?? '' };
}

/** Adds the members of a comma-separated list. */
export function commaValue(text: string, before: string[] | undefined): string[] {
  const members = text.split(',').map((member) => member.trim());
  if (members.includes('')) throw new InvalidArgumentError('A list has no empty members.');
  return [...(before ?? []), ...members];
}

/** Kinds of cache records, separated by commas. */
export function kindsValue(text: string, before: CacheKind[] | undefined): CacheKind[] {
  const named = commaValue(text, undefined).map((word) => {
    const kind = cacheKinds.find((known) => known === word);
    if (kind === undefined) throw new InvalidArgumentError(`The kinds are ${cacheKinds.join(', ')}.`);
    return kind;
  });
  return [...new Set([...(before ?? []), ...named])];
}

function split(text: string): [string, string | undefined] {
  const at = text.indexOf('=');
  const key = at < 0 ? text : text.slice(0, at);
  if (key === '') throw new InvalidArgumentError('KEY=VALUE is expected.');
  return [key, at < 0 ? undefined : text.slice(at + 1)];
}
