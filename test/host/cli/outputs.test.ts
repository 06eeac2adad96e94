import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { isBuildvisorError } from '../../../common/errors.ts';
import { formatCsv, parseCsv } from '../../../host/cli/build/csv.ts';
import { formatOutput, type OutputContext, parseOutputs } from '../../../host/cli/build/outputs.ts';

const dir = mkdtempSync(join(tmpdir(), 'bv-'));
afterAll(() => rmSync(dir, { recursive: true }));

function outputs(values: string[], context: Partial<OutputContext> = {}): string[] {
  const specs = parseOutputs(values, { tags: [], push: false, stdoutIsTerminal: false, ...context });
  return specs.map((spec) => formatOutput(spec, spec.dest));
}

test.each<[string, Partial<OutputContext>, string]>([
  [dir, {}, `type=local,dest=${dir}`],
  ['-', {}, 'type=tar,dest=-'],
  [`type=oci,dest=${dir}/a.tar`, {}, `type=oci,dest=${dir}/a.tar`],
  [`dest=${dir}/a.tar,type=docker`, { tags: ['a:1'] }, `type=docker,name=a:1,dest=${dir}/a.tar`],
  [`type=docker,dest=-`, { tags: ['a:1', 'b'] }, `type=docker,"name=a:1,b",dest=-`],
  [`type=docker,dest=-,name=own`, { tags: ['a:1'] }, `type=docker,name=own,dest=-`],
  [`type=oci,tar=false,dest=${dir}`, {}, `type=oci,tar=false,dest=${dir}`],
  ['type=registry', { tags: ['r/a'] }, 'type=image,push=true,name=r/a'],
  ['type=image', { tags: ['r/a'], push: true }, 'type=image,push=true,name=r/a'],
  [`"type=local","dest=${dir}"`, {}, `type=local,dest=${dir}`],
])('%s', (value, context, expected) => {
  expect(outputs([value], context)).toEqual([expected]);
});

test('--push alone is an output', () => {
  expect(outputs([], { push: true, tags: ['r/a:1'] })).toEqual(['type=image,push=true,name=r/a:1']);
});

test.each<[string[], Partial<OutputContext>, string]>([
  [[''], {}, '--output is empty'],
  [['type=nosuch'], {}, 'unknown type nosuch'],
  [['dest=x'], {}, 'has no type'],
  [['type=oci,x'], {}, 'not a list of KEY=VALUE'],
  [['type="oci'], {}, 'not a list of KEY=VALUE'],
  [['type=oci'], {}, 'needs dest=FILE'],
  [['type=local'], {}, 'needs dest=DIR'],
  [['type=local,dest=-'], {}, 'cannot go to stdout'],
  [[`type=oci,dest=${dir}`], {}, 'is a directory'],
  [[`type=oci,dest=${dir}/no/such/a.tar`], {}, 'There is no directory'],
  [['type=image,dest=x'], {}, 'takes no dest'],
  [['-'], { stdoutIsTerminal: true }, 'not written to a terminal'],
  [['-', '-'], {}, 'Only one --output'],
  [[], { push: true }, 'where to push'],
  [['type=registry'], {}, 'where to push'],
])('%j is refused', (values, context, message) => {
  try {
    outputs(values, context);
    expect.unreachable();
  } catch (error) {
    expect(isBuildvisorError(error, 'USAGE') && error.message).toContain(message);
  }
});

test('any fields survive CSV', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { minLength: 1 }), (fields) => {
      expect(parseCsv(formatCsv(fields))).toEqual(fields);
    }),
  );
});
