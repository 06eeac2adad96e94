import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Attacker } from '../../../soak/fuzz/attacker.ts';
import { breakRule, rules } from '../../../soak/fuzz/rules.ts';
import { openGate, type TestGate } from '../../native/gate.ts';

let dir: string;
let upstream: Http2Server;
let gate: TestGate;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bv-rules-'));
  upstream = createServer();
  upstream.on('session', (session) => session.on('error', () => undefined));
  upstream.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
  });
  upstream.listen(join(dir, 'upstream.sock'));
  gate = await openGate(dir, join(dir, 'upstream.sock'));
});
afterAll(async () => {
  await gate.stop();
  upstream.close();
  rmSync(dir, { recursive: true, force: true });
});

test.each(rules.map((rule) => [rule.name, rule] as const))('%s is answered as RFC 9113 demands', async (_, rule) => {
  const attacker = await Attacker.connect(gate.socket, () => 0);
  await breakRule(attacker, rule);
  attacker.leave();
  expect(attacker.faults).toEqual([]);
});
