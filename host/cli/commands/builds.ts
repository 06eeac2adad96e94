import type { Scope } from '../../../common/scope.ts';
import type { BuildRecord, BuildStateName } from '../../client/types.ts';
import { formatAge, formatTable } from '../table.ts';
import { requireMachine } from './info.ts';
import { terminalWidth } from './ls.ts';

/** Flags of `buildvisor builds`. */
export interface BuildsFlags {
  active?: boolean;
  all?: boolean;
  json?: boolean;
}

/** Builds shown without `--all`. */
const shown = 20;
const active: BuildStateName[] = ['QUEUED', 'RUNNING'];

/** `buildvisor builds SCOPE`: the builds that a VM remembers, the newest last. */
export async function listBuilds(scope: Scope, flags: BuildsFlags): Promise<void> {
  const machine = requireMachine(scope);
  const { connectApi } = await import('../../client/connect.ts');
  const client = connectApi(machine.apiSocket);
  try {
    const limit = flags.all || flags.json ? 0 : shown + 1;
    const found = await client.list({ limit, ...(flags.active && { states: active }) });
    if (flags.json) return void process.stdout.write(`${JSON.stringify(found)}\n`);
    if (found.length === 0) return void process.stderr.write('no builds\n');
    const builds = flags.all ? found : found.slice(-shown);
    const lines = formatTable(
      columns,
      builds.map((build) => buildRow(build, Date.now())),
      terminalWidth(),
    );
    for (const line of lines) process.stdout.write(`${line}\n`);
    if (builds.length < found.length) process.stderr.write('older builds are left out; --all shows them\n');
  } finally {
    client.close();
  }
}

const columns = [
  { title: 'BUILD' },
  { title: 'STATE' },
  { title: 'ROUTE' },
  { title: 'AGE', right: true },
  { title: 'TIME', right: true },
  { title: 'STEPS', right: true },
  { title: 'PLACE', right: true },
  { title: 'OF' },
];

/** A build as a row: its age since it came, how long it took or has taken, its steps with the cached ones, its place in the queue. */
export function buildRow(build: BuildRecord, nowMs: number): string[] {
  const { id, state, route, startedAtMs, endedAtMs, steps, queued, code } = build;
  const total = steps?.total ?? 0;
  return [
    id,
    code === '' || code === 'BUILD_FAILED' || state !== 'FAILED'
      ? state.toLowerCase()
      : `${state.toLowerCase()} (${code})`,
    route,
    formatAge(Math.max(0, nowMs - startedAtMs)),
    formatAge(Math.max(0, (endedAtMs || nowMs) - startedAtMs)),
    total === 0 ? '-' : steps?.cached ? `${total}, ${steps.cached} cached` : String(total),
    queued ? `${queued.position} of ${queued.waiting}` : '-',
    aboutText(build.about),
  ];
}

/** What a build is of, in a few words. */
function aboutText(about: BuildRecord['about']): string {
  if (!about) return '-';
  const { dockerfile, target, tags, platforms, context } = about;
  const parts = [
    tags[0] ?? '',
    dockerfile === '' && context === '' ? '' : dockerfile || 'Dockerfile',
    target === '' ? '' : `target ${target}`,
    platforms.length > 0 ? platforms.join(',') : '',
    context === 'tar' ? '' : context,
  ];
  return parts.filter(Boolean).join(', ') || '-';
}
