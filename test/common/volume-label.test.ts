import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseScope } from '../../common/scope.ts';
import { labelSize, parseVolumeLabel, renderVolumeLabel } from '../../common/volume-label.ts';

const segment = fc.stringMatching(/^[a-z0-9._-]{1,63}$/).filter((text) => text !== '.' && text !== '..');
const scopes = fc.array(segment, { minLength: 1, maxLength: 8 }).map((segments) => parseScope(segments.join('/')));

test('a label is read back as it was written', () => {
  for (const fresh of [true, false])
    expect(parseVolumeLabel(renderVolumeLabel({ kind: 'scratch', fresh }))).toEqual({ kind: 'scratch', fresh });
  fc.assert(
    fc.property(scopes, fc.boolean(), (scope, fresh) => {
      const label = { kind: 'cache', scope, fresh } as const;
      expect(parseVolumeLabel(renderVolumeLabel(label))).toEqual(label);
    }),
  );
});

test('any other byte makes it none', () => {
  const label = renderVolumeLabel({ kind: 'cache', scope: parseScope('acme/app/main'), fresh: false });
  fc.assert(
    fc.property(fc.nat(labelSize - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(label);
      changed[at] = (changed[at] ?? 0) ^ change;
      expect(parseVolumeLabel(changed)).not.toEqual({ kind: 'cache', scope: 'acme/app/main', fresh: false });
    }),
  );
  for (const bytes of [Buffer.alloc(labelSize), Buffer.alloc(0), label.subarray(0, 100), Buffer.alloc(labelSize, 255)])
    expect(parseVolumeLabel(bytes)).toBeUndefined();
});
