import { expect, test } from 'vitest';
import { findTooDeep, layersBelow, tooDeepError } from '../../../common/dockerfile/depth.ts';

const lines = (count: number, line: string): string => `${line}\n`.repeat(count);
const runs = (count: number): string => lines(count, 'RUN x');

test.each([
  ['500 layers', `FROM a\n${runs(500)}`, undefined],
  ['501 layers', `FROM a\n${runs(501)}`, { stage: '0', depth: 501, line: 502 }],
  [
    'all that make one',
    `FROM a\n${lines(120, 'RUN x\nCOPY a b\nADD a b\nWORKDIR /a\nENV a=b')}RUN <<E\nx\nE\n${runs(19)}`,
    undefined,
  ],
  ['what makes none', `FROM a\n${lines(999, 'ENV a=b\nWORKDIR /\nWORKDIR $X\nLABEL a=b')}`, undefined],
  [
    'a chain through stages',
    `FROM a AS One\n${runs(300)}FROM one\n${runs(201)}`,
    { stage: '1', depth: 501, line: 503 },
  ],
  [
    'a chain by three stages',
    `FROM a AS b\n${runs(200)}FROM b AS c\n${runs(200)}FROM c AS d\n${runs(101)}`,
    { stage: 'd', depth: 501 },
  ],
  ['stages beside each other', `FROM a\n${runs(400)}FROM a\n${runs(400)}COPY --from=0 a b\n`, undefined],
  ['a stage that nobody needs', `FROM a AS deep\n${runs(600)}FROM a\nRUN x\n`, undefined],
  [
    'one that is copied from',
    `FROM a AS deep\n${runs(600)}FROM a\nCOPY --chown=1 --from=deep a b\n`,
    { stage: 'deep', depth: 600 },
  ],
  [
    'one that is mounted',
    `FROM a AS deep\n${runs(600)}FROM a\nRUN --mount=type=bind,from=deep,target=/x y\n`,
    { stage: 'deep' },
  ],
  ['one that is copied from by number', `FROM a\n${runs(600)}FROM a\nCOPY --from=0 a b\n`, { stage: '0' }],
  ['links do not stack', `FROM a\nRUN x\n${lines(1000, 'COPY --link a b')}RUN x\n`, undefined],
  ['two links on an image', `FROM a\nCOPY --link a b\nCOPY --link a b\n${runs(499)}`, undefined],
  ['a second link on scratch', `FROM scratch\nCOPY --link a b\nCOPY --link a b\n${runs(499)}`, { depth: 501 }],
  ['--link=false stacks', `FROM a\n${lines(501, 'COPY --link=false a b')}`, { depth: 501 }],
  ['what follows a link stacks', `FROM a\n${runs(300)}COPY --link a b\n${runs(200)}`, { depth: 501 }],
  [
    'a link takes what came since the first one as one',
    `FROM a\n${runs(300)}${lines(300, 'RUN x\nADD --link a b')}`,
    undefined,
  ],
  ['a variable as base', `ARG B=b\nFROM a AS b\n${runs(300)}FROM $B\n${runs(300)}`, undefined],
  ['another frontend', `# syntax=me/mine\nFROM a\n${runs(600)}`, undefined],
  ['the usual frontend', `# syntax=docker/dockerfile:1.7\nFROM a\n${runs(600)}`, { depth: 600 }],
])('%s', (_, dockerfile, expected) => {
  const found = findTooDeep(dockerfile);
  if (expected === undefined) expect(found).toBeUndefined();
  else expect(found).toMatchObject(expected);
});

test('only the target counts', () => {
  const dockerfile = `FROM a AS small\nRUN x\nFROM a AS deep\n${runs(600)}`;
  expect(findTooDeep(dockerfile, 'small')).toBeUndefined();
  expect(findTooDeep(dockerfile, 'DEEP')).toMatchObject({ stage: 'deep' });
  expect(findTooDeep(dockerfile, '1')).toMatchObject({ stage: 'deep' });
  expect(findTooDeep(dockerfile, 'nobody')).toBeUndefined();
});

test('tells what an instruction stands on', () => {
  const dockerfile = `FROM a AS b\n${runs(5)}RUN \\\n y\n`;
  expect(layersBelow(dockerfile, 8)).toEqual({ stage: 'b', below: 5 });
  expect(layersBelow(dockerfile, 1)).toBeUndefined();
});

test('the error has the stage, the depth, the limit and the ways out', () => {
  const error = tooDeepError({ stage: 'deep', depth: 612, line: 503 }, 'Dockerfile');
  expect(error.message).toBe('The stage deep stacks 612 layers; overlayfs mounts at most 500');
  expect(error.hint).toMatch(/^Dockerfile:503 is the first too many.*one RUN.*heredoc.*COPY --link/);
  expect(error).toMatchObject({ code: 'DEPTH_LIMIT', facts: { stage: 'deep', depth: 612, limit: 500, line: 503 } });
});

test('a Dockerfile of 10 MB and 4000 stages is read within a second', () => {
  const stage = (i: number): string =>
    `FROM base AS s${i}\n${lines(8, `RUN ${'x'.repeat(300)}`)}COPY --from=s${i - 1} a b\n`;
  const dockerfile = `FROM a AS base\n${Array.from({ length: 4000 }, (_, i) => stage(i)).join('')}`;
  expect(dockerfile.length).toBeGreaterThan(9_000_000);
  const before = performance.now();
  expect(findTooDeep(dockerfile)).toBeUndefined();
  expect(performance.now() - before).toBeLessThan(5_000);
});
