import { expect, test } from 'vitest';
import { explainDepth, readDepth } from '../../../agent/builds/depth.ts';
import { BuildvisorError } from '../../../common/errors.ts';

const dockerfile = `FROM a AS deep\n${'RUN x\n'.repeat(600)}`;
const source = (line: number, more: object = {}): object => ({
  info: { filename: 'Dockerfile', data: Buffer.from(dockerfile).toString('base64') },
  ranges: [{ start: { line }, end: { line } }],
  ...more,
});
const failure = new BuildvisorError('BUILD_FAILED', 'mount: invalid argument', { facts: { step: 'RUN x' } });

test('reads what the gate counted before it made the file short, else counts itself', () => {
  expect(readDepth(source(11))).toEqual({ stage: 'deep', below: 9 });
  expect(readDepth(source(11, { layersBelow: { stage: 'other', below: 501 } }))).toEqual({
    stage: 'other',
    below: 501,
  });
  for (const odd of [null, {}, { ranges: 1 }, source(9_999), { info: {}, ranges: [{}] }])
    expect(readDepth(odd)).toBeUndefined();
});

test('past the limit it is certain, near it a hint, else nothing', () => {
  expect(explainDepth(failure, { stage: 'deep', below: 501 })).toMatchObject({
    code: 'DEPTH_LIMIT',
    message: 'A step of the stage deep stands on 501 layers; overlayfs mounts at most 500',
    hint: expect.stringContaining('COPY --link'),
    facts: { step: 'RUN x', stage: 'deep', depth: 501, limit: 500 },
  });
  expect(explainDepth(failure, { stage: '3', below: 480 })).toMatchObject({
    code: 'BUILD_FAILED',
    message: 'mount: invalid argument',
    hint: expect.stringMatching(/^If it could not be mounted: the step stands on 480 layers/),
  });
  expect(explainDepth(failure, { stage: 'deep', below: 100 })).toBe(failure);
  expect(explainDepth(failure, undefined)).toBe(failure);
});
