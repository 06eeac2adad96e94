import { formatBytes, formatDuration } from '../../../common/units.ts';
import { type KnownMachine, list } from '../../machine/machines.ts';
import { formatAge, formatTable } from '../table.ts';

/** `buildvisor ls`: every scope, its VM's state and its cache volume's size. */
export function listMachines(flags: { json?: boolean; quiet?: boolean }): void {
  const machines = list().toSorted((a, b) => (a.scope < b.scope ? -1 : 1));
  if (flags.json) return void process.stdout.write(`${JSON.stringify(machines.map(jsonOf))}\n`);
  if (flags.quiet) return void process.stdout.write(machines.map(({ scope }) => `${scope}\n`).join(''));
  if (machines.length === 0) return void process.stderr.write('no scope has a VM or a cache volume yet\n');
  const rows = machines.map(rowOf);
  const columns = [
    { title: 'SCOPE' },
    { title: 'STATE' },
    { title: 'SINCE', right: true },
    { title: 'BOOT', right: true },
    { title: 'MEMORY', right: true },
    { title: 'CACHE', right: true },
    { title: 'DRIVER' },
  ];
  for (const line of formatTable(columns, rows, terminalWidth())) process.stdout.write(`${line}\n`);
}

/** The width to cut lines to: the terminal's, none in a pipe. */
export function terminalWidth(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}

function rowOf({ scope, live, state, cache }: KnownMachine): string[] {
  const since = state ? Date.parse(state.endedAt ?? state.startedAt) : undefined;
  return [
    scope,
    stateWord(live, state),
    since === undefined ? '-' : formatAge(Math.max(0, Date.now() - since)),
    live && state?.bootMs !== undefined ? formatDuration(state.bootMs) : '-',
    live && state ? formatBytes(state.memoryBytes) : '-',
    cache ? `${formatBytes(cache.usedBytes)} / ${formatBytes(cache.sizeBytes)}` : '-',
    live && state ? state.description || state.driver : '-',
  ];
}

/** One word for the state, with the reason of an end. */
function stateWord(live: boolean, state: KnownMachine['state']): string {
  if (!state) return 'off';
  if (live) return state.phase;
  if (state.phase === 'failed') return `failed (${state.error?.code ?? 'unknown'})`;
  if (state.phase !== 'ended') return 'lost';
  return state.endReason ? `off (${state.endReason})` : 'off';
}

function jsonOf({ scope, live, state, cache, dir }: KnownMachine): object {
  return { scope, live, dir, cache: cache ?? null, vm: state ?? null };
}
