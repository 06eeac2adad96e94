/** Runs one program out of a folder by its name: the benches and the soaks. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { hasErrno } from '../common/errors.ts';
import { repo } from './setup/paths.ts';

/** Runs `<folder>/<name>.ts` with the arguments after the name; ends this process with its exit code, or with 2 and the list. */
export async function runNamed(folder: string): Promise<void> {
  const [name, ...args] = process.argv.slice(2);
  const names = await namesIn(folder);
  if (name === undefined || !names.includes(name)) {
    if (name !== undefined) console.error(`There is no ${folder} named "${name}".`);
    console.error(`Usage: npm run ${folder} -- NAME\nNames: ${names.join(', ') || '(none yet)'}`);
    process.exitCode = 2;
    return;
  }
  const program = join(repo, folder, `${name}.ts`);
  const child = execa(process.execPath, [program, ...args], { stdio: 'inherit', reject: false });
  const watching = endWithNpm(() => child.kill('SIGTERM'));
  const { exitCode = 1 } = await child;
  clearInterval(watching);
  process.exitCode = exitCode;
}

/** npm starts this through a shell that passes no signal on: what is cut off is known by its parent's end. */
function endWithNpm(end: () => void): NodeJS.Timeout | undefined {
  if (process.env.npm_lifecycle_event === undefined) return undefined;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    end();
  }, 500);
  return timer;
}

/** Programs of a folder; its sub-folders hold what they share. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    const files = await readdir(join(repo, folder));
    return files
      .filter((file) => file.endsWith('.ts'))
      .map((file) => file.slice(0, -3))
      .sort();
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
