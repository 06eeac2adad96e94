import { BuildvisorError } from './errors.ts';

/** A checked scope: the name whose builds may share a cache, such as `acme/app/main`. */
export type Scope = string & { readonly __scope: unique symbol };

const segment = /^[a-z0-9._-]{1,63}$/;
const rule = 'one to eight segments of 1-63 characters from a-z 0-9 . _ -, joined by "/", none of them "." or ".."';

/**
 * Checks a scope. Scopes are compared exactly: nothing is folded, trimmed or lower-cased, so that `a/b` and `a-b` stay two.
 * @throws BuildvisorError `SCOPE_INVALID`
 */
export function parseScope(text: string): Scope {
  const segments = text.split('/');
  const good = segments.length <= 8 && segments.every((s) => segment.test(s) && s !== '.' && s !== '..');
  if (good) return text as Scope;
  throw new BuildvisorError('SCOPE_INVALID', `"${text.slice(0, 100)}" is not a scope`, {
    hint: `A scope is ${rule}, for example acme/app/main.`,
    facts: { scope: text.slice(0, 600) },
  });
}
