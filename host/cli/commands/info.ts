import type { Scope } from '../../../common/scope.ts';
import { formatBytes, formatDuration } from '../../../common/units.ts';
import type { Info } from '../../client/types.ts';
import { find, list, type Machine } from '../../machine/machines.ts';
import { stateText } from '../../machine/state-text.ts';
import { usageError } from '../exit.ts';
import { formatAge, formatFields, formatTable } from '../table.ts';
import { terminalWidth } from './ls.ts';

/** `buildvisor info SCOPE`: what the VM says of itself. */
export async function showInfo(scope: Scope, flags: { json?: boolean }): Promise<void> {
  const machine = requireMachine(scope);
  const { connectApi } = await import('../../client/connect.ts');
  const client = connectApi(machine.apiSocket);
  try {
    const info = await client.info();
    if (flags.json) process.stdout.write(`${JSON.stringify({ ...info, host: machine.state })}\n`);
    else process.stdout.write(`${infoLines(info, machine).join('\n')}\n`);
  } finally {
    client.close();
  }
}

/**
 * The scope's VM, which must be up.
 * @throws BuildvisorError `USAGE`
 */
export function requireMachine(scope: Scope): Machine {
  const machine = find(scope);
  if (machine) return machine;
  const known = list().find((one) => one.scope === scope);
  const phase = known?.live ? `is ${known.state?.phase}` : 'is not up';
  throw usageError(`The VM of ${scope} ${phase}`, `\`buildvisor up ${scope}\` boots it.`);
}

/** The info as lines, in sections. */
export function infoLines(info: Info, machine: Machine): string[] {
  const { versions, state, worker } = info;
  const lines = formatFields([
    ['scope', info.scope],
    ['state', [state?.phase.toLowerCase(), state ? stateText(state) : ''].filter(Boolean).join(', ')],
    ['builds', buildsText(info)],
    [
      'versions',
      `buildvisor ${versions?.buildvisor}, buildkit ${versions?.buildkit}, node ${versions?.node}, linux ${versions?.kernel}`,
    ],
    [
      'machine',
      `${info.cpus} CPUs, ${formatBytes(info.memoryBytes)} (${formatBytes(info.memoryAvailableBytes)} available), ${machine.state.description || machine.state.driver}`,
    ],
    ['idle timeout', info.idleTimeoutMs > 0 ? formatAge(info.idleTimeoutMs) : 'never'],
    ['platforms', worker?.platforms.join(' ') || undefined],
    ['buildkitd restarts', info.buildkitdRestarts > 0 ? String(info.buildkitdRestarts) : undefined],
    ['after an unclean stop', info.repair ? repairText(info.repair) : undefined],
    ...asideFields(info),
    ['buildkit socket', machine.buildkitSocket],
    ['api socket', machine.apiSocket],
    ['console', machine.consoleLog],
  ]);
  const width = terminalWidth();
  const section = (title: string, rows: string[]): void => {
    if (rows.length > 0) lines.push('', title, ...rows.map((row) => `  ${row}`));
  };
  section(
    'volumes',
    info.volumes.length === 0 ? [] : formatTable(volumeColumns, info.volumes.map(volumeRow), width && width - 2),
  );
  section(
    'gc',
    info.gcPolicies.length === 0 ? [] : formatTable(gcColumns, info.gcPolicies.map(gcRow), width && width - 2),
  );
  section('boot', formatFields(info.bootPhases.map(({ name, atMs }) => [name, formatDuration(atMs)])));
  section(
    'capabilities',
    formatFields(info.capabilities.map(({ name, available, reason }) => [name, available ? 'yes' : `no: ${reason}`])),
  );
  return lines;
}

/** How many builds there are, and how many may run: `3 running of at most 4, 12 waiting: …`. */
function buildsText({ state, slots }: Info): string {
  const running = state?.buildsRunning ?? 0;
  if (!slots) return `${running} running`;
  const fewer = slots.limit < slots.most ? ` (${slots.limit} while memory is short)` : '';
  const parked = slots.parked > 0 ? `, ${slots.parked} begun and waiting for others` : '';
  const waiting = slots.waiting > 0 ? `, ${slots.waiting} waiting: ${state?.waitingFor}` : '';
  return `${slots.running} running of at most ${slots.most}${fewer}${parked}${waiting}`;
}

/** What an unclean stop cost. */
function repairText({ removed, sourcesPruned, recordsPruned, setAside }: NonNullable<Info['repair']>): string {
  if (setAside !== '') return `the whole cache was set aside: ${setAside}`;
  const done = [
    removed.length > 0 ? `removed ${removed.map((path) => path.split('/').at(-1)).join(', ')}` : '',
    recordsPruned > 0 ? `${recordsPruned} cache records lost` : 'nothing lost',
    sourcesPruned > 0 ? `${sourcesPruned} contexts to be sent again` : '',
  ];
  return done.filter(Boolean).join('; ');
}

/** BuildKit roots that were set aside. */
function asideFields({ volumes }: Info): [string, string][] {
  const asides = volumes.flatMap((volume) => volume.asides);
  return asides.map(({ number, reason, sweeping }) => [
    `set aside, ${number}`,
    sweeping ? `${reason} (being deleted)` : reason,
  ]);
}

const volumeColumns = [
  { title: 'VOLUME' },
  { title: 'MODE' },
  { title: 'SIZE', right: true },
  { title: 'FREE', right: true },
  { title: 'DEVICE' },
  { title: 'NOTES' },
];

function volumeRow(volume: Info['volumes'][number]): string[] {
  const notes = [
    volume.formatted ? 'formatted at this boot' : '',
    volume.wasUnclean ? 'was not unmounted cleanly' : '',
  ];
  return [
    volume.name,
    volume.mode || '-',
    formatBytes(volume.sizeBytes),
    formatBytes(volume.freeBytes),
    volume.device,
    notes.filter(Boolean).join(', '),
  ];
}

const gcColumns = [
  { title: 'POLICY' },
  { title: 'KEEP', right: true },
  { title: 'RESERVED', right: true },
  { title: 'MAX USED', right: true },
  { title: 'MIN FREE', right: true },
  { title: 'FILTERS' },
];

function gcRow(policy: Info['gcPolicies'][number], index: number): string[] {
  const bytes = (value: number): string => (value > 0 ? formatBytes(value) : '-');
  return [
    `${index + 1}${policy.all ? ' (all)' : ''}`,
    policy.keepDurationMs > 0 ? formatAge(policy.keepDurationMs) : '-',
    bytes(policy.reservedBytes),
    bytes(policy.maxUsedBytes),
    bytes(policy.minFreeBytes),
    policy.filters.join(' ') || '-',
  ];
}
