/**
 * `npm run soak -- volumes [RUNS] [SEED]`: the properties of test/native/volumes-fuzz.test.ts on RUNS foreign, truncated, tampered with
 * and damaged images each, in place of the few of a test run. The last line is one JSON object; the exit code is 1 when one did not hold.
 */
import { join } from 'node:path';
import { execa } from 'execa';
import { repo } from '../scripts/setup/paths.ts';

const [runs = 300, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
const env = { FUZZ_RUNS: String(runs), FUZZ_SEED: String(seed) };
const args = ['run', '--project', 'native', 'test/native/volumes-fuzz.test.ts'];
const vitest = join(repo, 'node_modules/vitest/vitest.mjs');
const { exitCode = 1 } = await execa(process.execPath, [vitest, ...args], {
  ...{ cwd: repo, env, stdio: ['ignore', 'inherit', 'inherit'], reject: false },
});
console.log(JSON.stringify({ soak: 'volumes', runs, seed, held: exitCode === 0 }));
process.exitCode = exitCode;
