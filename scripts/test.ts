/** Runs all tests, then says on its last line how many passed, from vitest's own report: `N passed, N failed, N skipped`. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { repo } from './setup/paths.ts';

/** What we read of vitest's JSON report. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  /** Files too: one that cannot be loaded has no test that failed. */
  testResults: { status: string; assertionResults: unknown[] }[];
}

const dir = await mkdtemp(join(tmpdir(), 'buildvisor-test-'));
try {
  const file = join(dir, 'report.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const { exitCode = 1 } = await execa('vitest', ['run', ...reporters, ...process.argv.slice(2)], {
    cwd: repo,
    preferLocal: true,
    stdio: 'inherit',
    reject: false,
  });
  const report = JSON.parse(await readFile(file, 'utf8')) as Report;
  const broken = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
  );
  const failed = report.numFailedTests + broken.length;
  const skipped = report.numPendingTests + report.numTodoTests;
  // An error outside any test makes vitest fail though every test passed.
  process.exitCode = exitCode !== 0 ? exitCode : failed > 0 || report.numPassedTests === 0 ? 1 : 0;
  console.log(`${report.numPassedTests} passed, ${failed} failed, ${skipped} skipped`);
} finally {
  await rm(dir, { recursive: true, force: true });
}
