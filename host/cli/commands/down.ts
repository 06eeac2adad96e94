import type { Scope } from '../../../common/scope.ts';
import { down, list } from '../../machine/machines.ts';
import { usageError } from '../exit.ts';

/** `buildvisor down SCOPE…`, or all with `--all`. A VM that is not up is no error. */
export async function takeDown(scopes: readonly Scope[], flags: { all?: boolean }): Promise<void> {
  if (scopes.length === 0 && !flags.all) throw usageError('No scope is given', 'Name one, or --all.');
  const wanted = flags.all
    ? list()
        .filter((known) => known.live)
        .map((known) => known.scope)
    : scopes;
  if (wanted.length === 0) process.stderr.write('no VM is up\n');
  for (const scope of wanted) {
    const was = await down(scope);
    process.stderr.write(`${scope} ${was ? 'is down' : 'was not up'}\n`);
  }
}
