/** Entry of the command `buildvisor`. */
import { CommanderError } from 'commander';
import { toBuildvisorError } from '../../common/errors.ts';
import { errorLines, exitCodeOf, exitUsage } from './exit.ts';
import { makeProgram } from './program.ts';

/**
 * Runs one call of the command line.
 * @param args the arguments, without the program's name
 * @returns the exit code
 */
export async function main(args: readonly string[]): Promise<number> {
  let code = 0;
  const words = args[0] === '--version' ? ['version', ...args.slice(1)] : args;
  const program = makeProgram(words, (given) => {
    code = given;
  });
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureHelp({ showGlobalOptions: false });
    // One line is enough for an error; commander puts suggestions on a second one.
    command.configureOutput({ outputError: (text, write) => write(`${text.trim().replaceAll('\n', ' ')}\n`) });
  }
  try {
    await program.parseAsync(words, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitUsage;
    process.stderr.write(`${errorLines(error, Boolean(process.env.BUILDVISOR_DEBUG)).join('\n')}\n`);
    return exitCodeOf(toBuildvisorError(error));
  }
}

/** A reader that goes away (`| head`) is no error worth a stack. */
function endOnClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
}

if (import.meta.main) {
  process.stdout.on('error', endOnClosedPipe);
  process.stderr.on('error', endOnClosedPipe);
  main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
  });
}
