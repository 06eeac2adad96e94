/**
 * `npm run soak -- clients [ROUNDS, default 300] [SEED]`: builds by buildctl, buildx, the CLI and our API, six at a time and two of
 * them running, most of whose clients are cancelled, torn from their connections or killed at a random moment. Afterwards nothing
 * may be left: no process, descriptor or memory, no build in the queue, and the machine must find itself idle. The last line
 * is one JSON object; the exit code is 1 when anything went wrong. Some 6 minutes.
 */
import { pollUntil } from '../common/wait.ts';
import { artefact, readArtefacts } from '../host/machine/artefacts.ts';
import { readVmState } from '../host/machine/vm-state.ts';
import { TestMachines } from '../test/fixtures/machines.ts';
import { runClients } from './clients/clients.ts';
import { clientsConfig, clientsContext } from './clients/setting.ts';

const [rounds = 300, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
const gib = 1024 ** 3;
const machines = new TestMachines({ driver: 'process', cacheBytes: 8 * gib, scratchBytes: 2 * gib });
machines.closeOnSignals();
try {
  const scope = machines.scope('soak/clients');
  const machine = await machines.up(scope, { configText: clientsConfig });
  const result = await runClients({
    ...{ machine, rounds, seed, atOnce: 6, dir: machines.dir, context: await clientsContext(machines.dir) },
    tools: artefact(readArtefacts(), 'tools'),
    log: (line) => console.log(line),
  });
  const idle = await pollUntil({ limitMs: 60_000, everyMs: 200, what: 'the machine to find itself idle' }, () => {
    const state = readVmState(machines.dirOf(scope));
    return state?.phase === 'ended' ? state.endReason : undefined;
  }).catch((error: unknown) => String(error));
  const lost = [...result.wrong, ...result.undrained, ...result.leaks, ...(idle === 'idle' ? [] : [`end: ${idle}`])];
  for (const line of lost) console.log(line);
  console.log(JSON.stringify({ soak: 'clients', seed, lost: lost.length, idle, ...result }));
  process.exitCode = lost.length === 0 ? 0 : 1;
} finally {
  await machines.close();
}
