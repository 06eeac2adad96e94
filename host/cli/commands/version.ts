import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { protocolVersion } from '../../../common/protocol.ts';

/** Version of this program, from package.json: one folder above `dist/`, three above this file. */
export function ownVersion(): string {
  const up = import.meta.filename.endsWith('.ts') ? '../../..' : '..';
  const text = readFileSync(join(import.meta.dirname, up, 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** `buildvisor version`. */
export function showVersion(flags: { json?: boolean }): void {
  const versions = { buildvisor: ownVersion(), protocol: protocolVersion, node: process.versions.node };
  if (flags.json) return void process.stdout.write(`${JSON.stringify(versions)}\n`);
  process.stdout.write(`buildvisor ${versions.buildvisor} (protocol ${versions.protocol}, Node ${versions.node})\n`);
}
