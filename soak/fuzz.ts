/**
 * `npm run soak -- fuzz [SECONDS, default 300] [SEED] [ATTACK,…]`: four connections at a time send the gate what no client should: malformed
 * frames, header blocks that are too large or never end, half-open streams, floods; others read or write slowly. Somebody else builds
 * meanwhile and must not notice. 300 seconds are well over a million frames. The last line is one JSON object; the
 * exit code is 1 when anything went wrong.
 */
import { pollUntil } from '../common/wait.ts';
import { artefact, readArtefacts } from '../host/machine/artefacts.ts';
import { readVmState } from '../host/machine/vm-state.ts';
import { TestMachines } from '../test/fixtures/machines.ts';
import { clientsConfig, clientsContext } from './clients/setting.ts';
import { runFuzz } from './fuzz/fuzz.ts';

const [seconds = 300, seed = Date.now() % 1_000_000] = process.argv.slice(2, 4).map(Number);
const only = process.argv[4]?.split(',');
const gib = 1024 ** 3;
const machines = new TestMachines({ driver: 'process', cacheBytes: 8 * gib, scratchBytes: 2 * gib });
machines.closeOnSignals();
try {
  const scope = machines.scope('soak/fuzz');
  const machine = await machines.up(scope, { configText: clientsConfig });
  const result = await runFuzz({
    ...{ machine, seconds, seed, atOnce: 4, ...(only && { only }), context: await clientsContext(machines.dir) },
    tools: artefact(readArtefacts(), 'tools'),
    log: (line) => console.log(line),
  });
  const idle = await pollUntil({ limitMs: 60_000, everyMs: 200, what: 'the machine to find itself idle' }, () => {
    const state = readVmState(machines.dirOf(scope));
    return state?.phase === 'ended' ? state.endReason : undefined;
  }).catch((error: unknown) => String(error));
  const lost = [...result.wrong, ...result.leaks, ...(idle === 'idle' ? [] : [`end: ${idle}`])];
  for (const line of lost) console.log(line);
  console.log(JSON.stringify({ soak: 'fuzz', seconds, seed, lost: lost.length, idle, ...result }));
  process.exitCode = lost.length === 0 ? 0 : 1;
} finally {
  await machines.close();
}
