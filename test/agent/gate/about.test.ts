import { expect, test } from 'vitest';
import { readSolveAbout } from '../../../agent/gate/about.ts';
import { writeBytes, writeString } from '../../../common/protobuf.ts';

const entry = (number: number, key: string, value: string): Buffer =>
  writeBytes(number, Buffer.concat([writeString(1, key), writeString(2, value)]));

/** A SolveRequest with these frontend attributes. */
function request(attributes: Record<string, string>, ...more: Buffer[]): Buffer {
  const entries = Object.entries(attributes).map(([key, value]) => entry(7, key, value));
  return Buffer.concat([writeString(1, 'ref'), writeString(6, 'dockerfile.v0'), ...entries, ...more]);
}

test('shows what a build is of, and no argument, label or secret', () => {
  const exporter = writeBytes(
    13,
    Buffer.concat([writeString(1, 'image'), entry(2, 'name', 'r.example/a:1,r.example/a:2')]),
  );
  const message = request(
    {
      filename: 'ci.Dockerfile',
      target: 'app',
      platform: 'linux/amd64,linux/arm64',
      'build-arg:TOKEN': 'hunter2',
      'label:a': 'hunter2',
      context: 'https://user:hun@ter2@git.example/a/b.git?token=hunter2#main',
    },
    exporter,
  );
  const about = readSolveAbout(message);
  expect(about).toEqual({
    frontend: 'dockerfile.v0',
    dockerfile: 'ci.Dockerfile',
    target: 'app',
    context: 'https://git.example/a/b.git',
    platforms: ['linux/amd64', 'linux/arm64'],
    tags: ['r.example/a:1', 'r.example/a:2'],
  });
  // However much of it has come.
  for (let cut = 0; cut <= message.length; cut++)
    expect(JSON.stringify(readSolveAbout(message.subarray(0, cut)))).not.toMatch(/hun|ter2/);
});

test('is bounded', () => {
  const about = readSolveAbout(request({ target: 'x'.repeat(10_000), platform: 'p,'.repeat(1000) }));
  expect(about.target.length).toBe(200);
  expect(about.platforms.length).toBe(10);
});
