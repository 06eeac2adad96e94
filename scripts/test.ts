/**
 * Runs all tests, then says from vitest's own report which failed, one line each, and on its last line how many: `N passed, N failed, N skipped`.
 * Who sees only the end of a long output has that.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { execa } from 'execa';
import { repo } from './setup/paths.ts';

/** What we read of vitest's JSON report. */
interface Report {
  numPassedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages?: string[] | null }[];
  }[];
}

/** Longest list of failures, and longest line of it in characters. */
const maxListed = 20;
const maxLine = 300;

/** One line for each test that failed, and for each file that could not be loaded or whose hook failed. */
function failuresOf({ testResults }: Report): string[] {
  return testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(repo, name);
    const failed = assertionResults.filter((test) => test.status === 'failed');
    if (status === 'failed' && failed.length === 0) return [`${file}: ${firstLine(message)}`];
    return failed.map((test) => `${file} > ${test.fullName}: ${firstLine(test.failureMessages?.[0] ?? '')}`);
  });
}

function firstLine(message: string): string {
  return stripVTControlCharacters(message).trimStart().split('\n', 1).join('');
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
  const failures = failuresOf(report);
  const skipped = report.numPendingTests + report.numTodoTests;
  // An error outside any test makes vitest fail though every test passed.
  process.exitCode = exitCode !== 0 ? exitCode : failures.length > 0 || report.numPassedTests === 0 ? 1 : 0;
  for (const line of failures.slice(0, maxListed)) console.log(`FAILED ${line.slice(0, maxLine)}`);
  if (failures.length > maxListed) console.log(`FAILED and ${failures.length - maxListed} more`);
  if (exitCode !== 0 && failures.length === 0) console.log('FAILED outside any test: see "Unhandled Errors" above');
  console.log(`${report.numPassedTests} passed, ${failures.length} failed, ${skipped} skipped`);
} finally {
  await rm(dir, { recursive: true, force: true });
}
