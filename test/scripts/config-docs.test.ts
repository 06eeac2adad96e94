import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseConfig } from '../../agent/config/index.ts';
import { configReference } from '../../scripts/config-docs.ts';

const file = readFileSync(new URL('../../docs/config.md', import.meta.url), 'utf8');

test('docs/config.md is what the schema says (else run: node scripts/config-docs.ts)', () => {
  expect(file).toBe(configReference());
});

test('its example is a config', () => {
  const [, example = ''] = /```toml\n([^`]*)```/.exec(file) ?? [];
  expect(parseConfig(example, 'docs/config.md').scope).toBe('acme/app/main');
});
