import { afterEach, expect, test, vi } from 'vitest';
import { parseScope } from '../../../common/scope.ts';
import { checkUpOptions } from '../../../host/machine/boot.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

const scope = parseScope('a/b');

test.each(['kvm', 'tcg', ''])('BUILDVISOR_ACCEL may be "%s"', async (accel) => {
  vi.stubEnv('BUILDVISOR_ACCEL', accel);
  await expect(checkUpOptions({ scope })).resolves.toBeUndefined();
});

test('an accelerator that there is not is refused', async () => {
  vi.stubEnv('BUILDVISOR_ACCEL', 'hax');
  await expect(checkUpOptions({ scope })).rejects.toMatchObject({
    code: 'USAGE',
    message: 'There is no accelerator "hax"',
    hint: 'BUILDVISOR_ACCEL is kvm or tcg, or not set.',
  });
});
