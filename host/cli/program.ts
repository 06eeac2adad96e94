import { Command, Option } from 'commander';
import { addBuild, addBuilds, addCancel, addWatch } from './build-commands.ts';
import { examples } from './examples.ts';
import { progressModes } from './progress/progress.ts';
import { machineOptions } from './shared-options.ts';
import { countValue, durationValue, kindsValue, scopeValue, sizeValue } from './values.ts';

const modes = progressModes.join('|');

/** Gets the exit code a command ends with, when it is not 0. */
type SetExit = (code: number) => void;

/** The command line: names, options and help. Each command's code is loaded when it runs. */
export function makeProgram(args: readonly string[], setExit: SetExit): Command {
  const program = new Command('buildvisor')
    .description('Container builds in a VM of their own, with a cache that stays.')
    .helpCommand(false)
    .addHelpText(
      'after',
      examples('buildvisor build . --scope acme/app/main --output type=oci,dest=app.tar', 'buildvisor ls'),
    );
  const adders = {
    build: addBuild,
    builds: addBuilds,
    watch: addWatch,
    cancel: addCancel,
    up: addUp,
    down: addDown,
    ls: addLs,
    socket: addSocket,
    info: addInfo,
    du: addDu,
    prune: addPrune,
    trim: addTrim,
    logs: addLogs,
    shell: addShell,
  };
  const known = Object.entries({ ...adders, version: addVersion, vm: addVm });
  // Only the command that is called is made, unless it is help or a mistake that needs them all.
  const called = known.filter(([name]) => name === args[0]);
  for (const [, add] of called.length > 0 ? called : known) add(program, setExit);
  return program;
}

function addUp(program: Command): void {
  const up = program
    .command('up')
    .summary('boot the VM of a scope')
    .description('Boots the VM of a scope and waits until it builds. Prints how other clients reach it.')
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('--json', "print the VM's state as JSON")
    .addOption(
      new Option('--progress <mode>', modes).choices(progressModes).default('auto').env('BUILDVISOR_PROGRESS'),
    );
  machineOptions(up)
    .addHelpText('after', examples('buildvisor up acme/app/main --config builder.toml --memory 4GiB --cpus 4'))
    .action(async (scope, flags) => (await import('./commands/up.ts')).bringUp(scope, flags));
}

function addDown(program: Command): void {
  program
    .command('down')
    .summary('switch VMs off')
    .description('Switches the VMs of scopes off in order. Their cache volumes stay.')
    .argument('[scopes...]', 'such as acme/app/main', (text: string, before: string[] | undefined) => [
      ...(before ?? []),
      scopeValue(text),
    ])
    .option('--all', 'every VM that is up')
    .addHelpText('after', examples('buildvisor down acme/app/main', 'buildvisor down --all'))
    .action(async (scopes, flags) => (await import('./commands/down.ts')).takeDown(scopes ?? [], flags));
}

function addLs(program: Command): void {
  program
    .command('ls')
    .summary('list scopes, their VMs and cache volumes')
    .description('Lists every scope with its VM and its cache volume.')
    .option('-q, --quiet', 'scopes only')
    .option('--json', 'as JSON')
    .addHelpText('after', examples("buildvisor ls --json | jq -r '.[] | select(.live) | .scope'"))
    .action(async (flags) => (await import('./commands/ls.ts')).listMachines(flags));
}

function addSocket(program: Command): void {
  const socket = program
    .command('socket')
    .summary('a BuildKit socket that boots its VM when it is used')
    .description(
      "Prints the address of a Unix socket with BuildKit's API, for docker buildx and buildctl. The VM of the scope is booted for the first call, " +
        'and again when it has gone meanwhile. A process of its own serves the socket until it is stopped.',
    )
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('--path <path>', 'where the socket is to be (default: a fixed place in the runtime folder)')
    .addOption(
      new Option(
        '--foreground',
        'serve it in this process, until SIGTERM or Ctrl-C; on the socket that systemd passed, if it did',
      ).conflicts('stop'),
    )
    .option('--stop', 'serve it no longer; what runs through it goes on');
  machineOptions(socket)
    .addHelpText(
      'after',
      `
Whoever can open the socket can use the VM; its mode is 0600. A connection without a call boots nothing.
${examples(
  'docker buildx create --name acme --driver remote "$(buildvisor socket acme/app/main)"',
  'BUILDKIT_HOST=$(buildvisor socket acme/app/main) buildctl du',
  'buildvisor socket acme/app/main --path /run/user/1000/acme.sock --memory 8GiB --foreground',
)}`,
    )
    .action(async (scope, flags) => (await import('./commands/socket.ts')).offerSocket(scope, flags));
}

function addInfo(program: Command): void {
  program
    .command('info')
    .summary('what a VM says of itself')
    .description('Shows versions, volumes, GC policies, boot times and capabilities of a VM that is up.')
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      examples('buildvisor info acme/app/main', 'buildvisor info acme/app/main --json | jq .volumes'),
    )
    .action(async (scope, flags) => (await import('./commands/info.ts')).showInfo(scope, flags));
}

function addDu(program: Command): void {
  program
    .command('du')
    .summary("what a VM's cache holds")
    .description('Shows what the cache of a VM that is up holds, the largest first, and sums by kind.')
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('--kind <list>', 'only layers, sources, cache-mounts or internal', kindsValue)
    .option('--older-than <age>', 'only what was not used for this long, such as 48h', durationValue)
    .option('--all', 'every record, not only the largest 20')
    .option('--json', 'as JSON')
    .addHelpText('after', examples('buildvisor du acme/app/main --kind cache-mounts'))
    .action(async (scope, flags) => (await import('./commands/du.ts')).showUsage(scope, flags));
}

function addPrune(program: Command): void {
  program
    .command('prune')
    .summary("remove what a VM's cache holds")
    .description(
      'Removes layers and sources from the cache of a VM that is up. Cache mounts go only when they are named with --kind.',
    )
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('--kind <list>', 'layers, sources, cache-mounts, internal (default: layers,sources)', kindsValue)
    .option('--older-than <age>', 'only what was not used for this long, such as 48h', durationValue)
    .option('--keep <size>', 'the least used first, until the whole cache is no larger', sizeValue)
    .option('--min-free <size>', 'the least used first, until this much is free on the volume', sizeValue)
    .option('--dry-run', 'say what would go, and remove nothing')
    .option('--json', 'each record as a line of JSON, the sum last')
    .addHelpText(
      'after',
      `
What a build uses now is never removed.
${examples(
  'buildvisor prune acme/app/main --older-than 7d --dry-run',
  'buildvisor prune acme/app/main --keep 20GB',
  'buildvisor prune acme/app/main --kind layers,sources,cache-mounts,internal',
)}`,
    )
    .action(async (scope, flags) => (await import('./commands/prune.ts')).pruneCache(scope, flags));
}

function addTrim(program: Command): void {
  program
    .command('trim')
    .summary("give a VM's free space back")
    .description(
      'Gives the free space of the volumes of a VM that is up back to this host: their files shrink. Also done when a VM is switched off.',
    )
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('--limit <duration>', 'stop after this long (default: 1m)', durationValue)
    .option('--json', 'as JSON')
    .addHelpText('after', examples('buildvisor trim acme/app/main'))
    .action(async (scope, flags) => (await import('./commands/trim.ts')).trimVolumes(scope, flags));
}

function addLogs(program: Command): void {
  program
    .command('logs')
    .summary("show a VM's console")
    .description('Shows the console of the VM of a scope, or of its last VM.')
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('-f, --follow', 'go on as lines come, until the VM is off')
    .option('-n, --lines <count>', 'the last lines only', countValue)
    .addHelpText('after', examples('buildvisor logs acme/app/main -n 50 --follow'))
    .action(async (scope, flags) => (await import('./commands/logs.ts')).showLogs(scope, flags));
}

function addShell(program: Command, setExit: SetExit): void {
  program
    .command('shell')
    .summary('open a shell in a VM')
    .description('Opens a shell in a VM that is up. The boot config must allow it: [machine] shell = true.')
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .argument('[command...]', 'after --: a command and its arguments, in place of the shell')
    .option('--tty', 'a terminal in the guest, also when this is none')
    .option('--no-tty', 'plain pipes')
    .addHelpText(
      'after',
      `
The exit code is the command's, or 128 + N when signal N ended it.
${examples('buildvisor shell acme/app/main', 'buildvisor shell acme/app/main -- df -h', 'buildvisor shell acme/app/main -- cat /proc/meminfo | grep Free')}`,
    )
    .action(async (scope, command, flags) =>
      setExit(await (await import('./commands/shell.ts')).openShell(scope, command, flags)),
    );
}

function addVersion(program: Command): void {
  program
    .command('version')
    .summary('print versions')
    .description("Prints this program's version.")
    .option('--json', 'as JSON')
    .action(async (flags) => (await import('./commands/version.ts')).showVersion(flags));
}

function addVm(program: Command): void {
  program
    .command('vm', { hidden: true })
    .description('The monitor of one VM; started by the other commands.')
    .argument('[scope]', 'shown by ps')
    .action(async () => (await import('../machine/monitor.ts')).runMonitor());
}
