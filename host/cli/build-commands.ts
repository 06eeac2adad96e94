import { type Command, Option } from 'commander';
import { examples } from './examples.ts';
import { progressModes } from './progress/progress.ts';
import { numberValue, scopeValue } from './values.ts';

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
      new Option('--progress <mode>', `${progressModes.join('|')}; on stderr`)
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
