import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { usageError } from '../exit.ts';
import { formatCsv, parseCsv } from './csv.ts';

/** Kinds of output: a directory, a file (or stdout), or what buildkitd does by itself. */
const kinds = { local: 'dir', tar: 'file', oci: 'file', docker: 'file', image: 'none', registry: 'none' } as const;
const takesName = ['image', 'oci', 'docker'];

/** One `--output`, checked. */
export interface OutputSpec {
  type: Exclude<keyof typeof kinds, 'registry'>;
  /** The exporter's attributes but `type` and `dest`. */
  attributes: Record<string, string>;
  /** Absolute path, `-` for stdout; absent for `image`. */
  dest: string | undefined;
}

/** What goes with the outputs of a build. */
export interface OutputContext {
  tags: readonly string[];
  push: boolean;
  /** Whether stdout is a terminal, which no archive is written to. */
  stdoutIsTerminal: boolean;
}

/**
 * Checks the `--output` values and puts `--tag` and `--push` in. Short forms: `DIR` is `type=local,dest=DIR`, `-` is `type=tar,dest=-`.
 * @throws BuildvisorError `USAGE`
 */
export function parseOutputs(values: readonly string[], context: OutputContext): OutputSpec[] {
  const specs = values.map(parseOutput);
  if (context.push) {
    const image = specs.find((spec) => spec.type === 'image');
    if (image) image.attributes.push = 'true';
    else specs.push({ type: 'image', attributes: { push: 'true' }, dest: undefined });
  }
  for (const spec of specs) {
    if (context.tags.length > 0 && takesName.includes(spec.type)) spec.attributes.name ??= context.tags.join(',');
    if (spec.attributes.push === 'true' && !spec.attributes.name)
      throw usageError('Nothing says where to push to', 'Add --tag REGISTRY/NAME:TAG.');
  }
  const toStdout = specs.filter((spec) => spec.dest === '-');
  if (toStdout.length > 1) throw usageError('Only one --output can go to stdout');
  if (toStdout.length > 0 && context.stdoutIsTerminal)
    throw usageError('An archive is not written to a terminal', 'Redirect stdout or give dest=FILE.');
  return specs;
}

/** The spec as buildctl's `--output` value, with another destination. */
export function formatOutput(spec: OutputSpec, dest: string | undefined): string {
  const fields = [`type=${spec.type}`, ...Object.entries(spec.attributes).map(([name, value]) => `${name}=${value}`)];
  return formatCsv(dest === undefined ? fields : [...fields, `dest=${dest}`]);
}

function parseOutput(value: string): OutputSpec {
  if (value === '') throw usageError('--output is empty');
  if (value === '-') return { type: 'tar', attributes: {}, dest: '-' };
  if (!value.includes('=')) return checkDest({ type: 'local', attributes: {}, dest: value }, value);
  const fields = parseCsv(value)?.map((field) => [field, field.indexOf('=')] as const);
  if (!fields || fields.some(([, at]) => at < 1))
    throw usageError(`--output ${value} is not a list of KEY=VALUE`, 'For example --output type=oci,dest=image.tar.');
  const attributes = Object.fromEntries(
    fields.map(([field, at]) => [field.slice(0, at).toLowerCase(), field.slice(at + 1)]),
  );
  const { type = '', dest, ...others } = attributes;
  if (!isKind(type))
    throw usageError(
      type === '' ? `--output ${value} has no type` : `--output has the unknown type ${type}`,
      `The types are ${Object.keys(kinds).join(', ')}.`,
    );
  if (type === 'registry') return checkDest({ type: 'image', attributes: { ...others, push: 'true' }, dest }, value);
  return checkDest({ type, attributes: others, dest }, value);
}

function checkDest(spec: OutputSpec, value: string): OutputSpec {
  const kind = spec.attributes.tar === 'false' ? 'dir' : kinds[spec.type];
  const { dest } = spec;
  if (kind === 'none') {
    if (dest === undefined) return spec;
    throw usageError(`--output ${value} takes no dest`, 'type=oci,dest=FILE and type=docker,dest=FILE write a file.');
  }
  if (dest === undefined || dest === '')
    throw usageError(`--output ${value} needs dest=${kind === 'dir' ? 'DIR' : 'FILE, or dest=- for stdout'}`);
  if (dest === '-') {
    if (kind === 'file') return spec;
    throw usageError('A directory cannot go to stdout', 'type=tar,dest=- writes the files as tar.');
  }
  const path = resolve(dest);
  if (kind === 'file' && statSync(path, { throwIfNoEntry: false })?.isDirectory())
    throw usageError(`${dest} is a directory, but type=${spec.type} writes a file`);
  if (!statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory())
    throw usageError(`There is no directory ${dirname(path)} to write ${dest} to`);
  return { ...spec, dest: path };
}

function isKind(type: string): type is keyof typeof kinds {
  return Object.hasOwn(kinds, type);
}
