import { Command, Option } from 'commander';
import { addBuilds, addCancel, addWatch } from './build-commands.ts';
import { examples } from './examples.ts';
import { progressModes } from './progress/progress.ts';
import {
  argumentValue,
  commaValue,
  countValue,
  durationValue,
  kindsValue,
  labelValue,
  listValue,
  scopeValue,
  sizeValue,
} from './values.ts';

const modes = progressModes.join('|');
const group = { machine: 'Options of the VM, when it is booted:', result: 'What becomes of the result:' };

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

function addBuild(program: Command): void {
  const build = program
    .command('build')
    .summary('build a Dockerfile in the VM of a scope')
    .description('Builds a Dockerfile in the VM of a scope, and boots that VM first when it is not up.')
    .argument('[context]', 'a directory, or - for a tar on stdin', '.')
    .addOption(scopeOption())
    .option('-f, --file <path>', 'the Dockerfile (default: Dockerfile in the context)')
    .option('--target <stage>', 'build this stage and what it needs')
    .option('--build-arg <key=value>', 'a build argument; KEY alone takes it from the environment', argumentValue)
    .option('--label <key=value>', 'a label of the image', labelValue)
    .option('--platform <list>', 'platforms, such as linux/amd64,linux/arm64', commaValue)
    .option('--no-cache', 'run every step again, with empty cache mounts')
    .option('--rerun', 'run every RUN step again, with cache mounts as they are: a generation of its own')
    .addOption(
      new Option(
        '--generation <name>',
        'cache RUN steps apart from other generations; a new name, such as the week, runs them again',
      ),
    )
    .option('--pull', 'ask the registry for newer base images')
    .addOption(
      new Option('--network <mode>', 'network of RUN steps; host must be allowed by the config').choices([
        'default',
        'none',
        'host',
      ]),
    )
    .option('--secret <spec>', 'a secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=NAME', listValue)
    .option('--ssh <spec>', 'an SSH agent or key for RUN --mount=type=ssh: default or NAME=SOCKET', listValue)
    .addOption(
      new Option('--progress <mode>', `${modes}; on stderr`)
        .choices(progressModes)
        .default('auto')
        .env('BUILDVISOR_PROGRESS'),
    )
    .option('-q, --quiet', "no progress; the image's digest on stdout")
    .optionsGroup(group.result)
    .option(
      '-o, --output <spec>',
      'DIR, - or type=local|tar|oci|docker|image|registry,dest=…; again for more',
      listValue,
    )
    .option('-t, --tag <name>', 'name of the image, for --push and in archives; again for more', listValue)
    .option('--push', 'push to the registry of the tags, from the VM')
    .option('--detach', "with a tar: return when it was taken, print the build's id, and let the build go on")
    .option('--durable', "return only when what the build leaves in the VM's cache outlives a power cut")
    .option('--metadata-file <path>', "write digests and the rest of the exporter's answer there as JSON");
  machineOptions(build)
    .addHelpText(
      'after',
      `
Without --output or --push the result stays in the VM's cache, where the next build finds it; tags are not kept.
A destination file is replaced only when the build has passed. .dockerignore is honoured.
Exit code: 0 built, 1 the build failed, 2 bad usage, 3 the machine failed, 130 interrupted.
${examples(
  'buildvisor build . --scope acme/app/main',
  'buildvisor build . -s acme/app/main -t app:1 -o type=docker,dest=- | docker load',
  'buildvisor build . -s acme/app/main -t registry.example/app:1 --push',
  'buildvisor build app -s acme/app/main -f app/ci.Dockerfile --target test --build-arg MODE=ci -o out/',
  'git archive HEAD | buildvisor build - -s acme/app/main',
)}`,
    )
    .action(async (context, flags) => (await import('./build/run.ts')).runBuild(context, flags));
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

function machineOptions(command: Command): Command {
  return command
    .optionsGroup(group.machine)
    .option('--config <file>', 'boot config, TOML; the scope is put in')
    .option('--memory <size>', 'memory (default: 2GiB)', sizeValue)
    .option('--cpus <count>', "CPUs (default: the host's, at most 4)", countValue)
    .option('--cache-size <size>', 'size of the cache volume; it grows, and never shrinks', sizeValue)
    .option('--scratch-size <size>', 'size of the scratch volume', sizeValue)
    .addOption(
      new Option('--driver <name>', 'how the VM is run').choices(['qemu', 'process']).env('BUILDVISOR_DRIVER'),
    );
}

function scopeOption(): Option {
  return new Option('-s, --scope <scope>', 'whose cache to build with, such as acme/app/main')
    .argParser(scopeValue)
    .env('BUILDVISOR_SCOPE');
}
