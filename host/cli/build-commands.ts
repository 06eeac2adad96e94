import { type Command, Option } from 'commander';
import { examples } from './examples.ts';
import { progressModes } from './progress/progress.ts';
import { machineOptions, scopeOption } from './shared-options.ts';
import { argumentValue, commaValue, labelValue, listValue, numberValue, scopeValue } from './values.ts';

const modes = progressModes.join('|');

/** `buildvisor build CONTEXT`. */
export function addBuild(program: Command): void {
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
    .optionsGroup('What becomes of the result:')
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

/** `buildvisor builds SCOPE`. */
export function addBuilds(program: Command): void {
  program
    .command('builds')
    .summary('list the builds of a VM')
    .description(
      'Lists the builds that a VM which is up remembers, whoever started them: state, route, steps, place in the queue.',
    )
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .option('--active', 'only those that run or wait')
    .option('--all', 'every build, not only the newest 20')
    .option('--json', 'as JSON, every build')
    .addHelpText('after', examples('buildvisor builds acme/app/main --active'))
    .action(async (scope, flags) => (await import('./commands/builds.ts')).listBuilds(scope, flags));
}

/** `buildvisor watch SCOPE BUILD`. */
export function addWatch(program: Command): void {
  program
    .command('watch')
    .summary('show a build as it goes on')
    .description(
      'Shows a build of a VM that is up, whoever started it, from its beginning to its end, as `build` would. A lost connection is taken up again.',
    )
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .argument('<build>', "the build's id, as `builds` lists it, or BuildKit's ref")
    .option('--after <number>', 'only what comes after the event of this number', numberValue)
    .addOption(
      new Option('--progress <mode>', `${modes}; on stderr`)
        .choices(progressModes)
        .default('auto')
        .env('BUILDVISOR_PROGRESS'),
    )
    .option('-q, --quiet', "no progress; the image's digest on stdout")
    .addHelpText(
      'after',
      `
Ctrl-C ends the watching, not the build. Exit code: the build's, as of \`build\`.
${examples('buildvisor watch acme/app/main 3kq0d5m0f9b2', 'buildvisor watch acme/app/main nightly --progress plain')}`,
    )
    .action(async (scope, build, flags) => (await import('./commands/watch.ts')).watchBuild(scope, build, flags));
}

/** `buildvisor cancel SCOPE BUILD`. */
export function addCancel(program: Command): void {
  program
    .command('cancel')
    .summary('cancel a build')
    .description(
      'Cancels a build of a VM that is up, whoever started it, whether it waits, runs or exports; returns when no process of it is left. One that has ended stays as it is.',
    )
    .argument('<scope>', 'such as acme/app/main', scopeValue)
    .argument('<build>', "the build's id, as `builds` lists it, or BuildKit's ref")
    .option('--json', "the build's record as JSON")
    .addHelpText('after', examples('buildvisor cancel acme/app/main 3kq0d5m0f9b2'))
    .action(async (scope, build, flags) => (await import('./commands/cancel.ts')).cancelBuild(scope, build, flags));
}
