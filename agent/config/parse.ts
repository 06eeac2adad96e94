import { parse, TomlError } from 'smol-toml';
import type * as z from 'zod/mini';
import { BuildvisorError } from '../../common/errors.ts';
import { type Config, toConfig } from './config.ts';
import { type KeyPath, locateKeys } from './positions.ts';
import { type Problem, toProblems } from './problems.ts';
import { configHeader, schema } from './schema.ts';

/** Problems named in the error; more are counted. */
const shownProblems = 20;

/**
 * Checks a boot config whole.
 * @param text the config; what follows the first NUL is the drive's padding
 * @param source what the text is called in the error, such as a path
 * @param addedLines lines at its top which the source does not have, for the lines in the error
 * @throws BuildvisorError `CONFIG_INVALID` naming every problem with its key, its line and what would be right
 */
export function parseConfig(text: string, source: string, addedLines = 0): Config {
  const [toml = ''] = text.split('\0', 1);
  const first = toml.split('\n', 1)[0]?.replace(/\r$/, '');
  if (first !== configHeader) throw invalid(source, [headerProblem(first)]);
  const document = readToml(toml, source);
  const result = schema.safeParse(document);
  if (result.success) return toConfig(result.data);
  const locate = locateKeys(toml);
  const lineOf = (path: KeyPath): number | undefined => {
    const line = locate(path);
    return line === undefined || line <= addedLines ? undefined : line - addedLines;
  };
  throw invalid(source, toProblems(result.error.issues as z.core.$ZodIssue[], document, lineOf));
}

/**
 * The TOML document of a config text.
 * @throws BuildvisorError `CONFIG_INVALID`
 */
export function readToml(toml: string, source: string): Record<string, unknown> {
  try {
    return parse(toml, { unsafeKeyBehaviour: 'throw', maxDepth: 20 });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [what = error.message] = error.message.replace(/^Invalid TOML document: /, '').split('\n');
    throw invalid(
      source,
      [{ path: '', line: error.line, message: `not TOML: ${what} (column ${error.column})` }],
      error,
    );
  }
}

function headerProblem(first: string | undefined): Problem {
  const version = /^# buildvisor config (.*)$/.exec(first ?? '')?.[1];
  const known = `this version of buildvisor reads "${configHeader}"`;
  if (version !== undefined)
    return { path: '', line: 1, message: `is of version ${JSON.stringify(version.slice(0, 20))}; ${known}` };
  return { path: '', line: 1, message: `the first line must be "${configHeader}"` };
}

/** The error that names the problems. */
export function invalid(source: string, problems: Problem[], cause?: unknown): BuildvisorError {
  const [first] = problems;
  const shown = problems.slice(0, shownProblems).map(problemLine);
  if (problems.length > shown.length) shown.push(`and ${problems.length - shown.length} more`);
  const message =
    shown.length === 1
      ? `The config ${source} is not valid: ${shown[0]}`
      : `The config ${source} is not valid:\n  ${shown.join('\n  ')}`;
  return new BuildvisorError('CONFIG_INVALID', message, {
    hint: 'docs/config.md describes every key.',
    facts: {
      source,
      problems: problems.length,
      ...(first?.path ? { key: first.path } : {}),
      ...(first?.line ? { line: first.line } : {}),
    },
    cause,
  });
}

function problemLine({ path, line, message }: Problem): string {
  return [line === undefined ? '' : `line ${line}: `, path === '' ? '' : `${path}: `, message].join('');
}
