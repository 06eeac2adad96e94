/**
 * `npm run soak -- kill [ROUNDS] [SEED]`: kills the agent, buildkitd, a step and buildctl of a machine in turn, at random moments
 * of builds. The last line is one JSON object; the exit code is 1 when anything went wrong.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseScope } from '../common/scope.ts';
import { down, ensureUp } from '../host/machine/machines.ts';
import { sleepingContext } from './kill/context.ts';
import { runKills } from './kill/kills.ts';

const [rounds = 200, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
const dir = mkdtempSync(join(tmpdir(), 'bv-soak-'));
process.env.XDG_STATE_HOME = join(dir, 'state');
process.env.XDG_RUNTIME_DIR = join(dir, 'run');
const scope = parseScope('soak/kill');
const clear = async (): Promise<void> => {
  await down(scope);
  rmSync(dir, { recursive: true, force: true });
};
// One that is cut off leaves no machine behind.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => void clear().finally(() => process.exit(1)));
try {
  const configText = '# buildvisor config 1\n[machine]\nidle-timeout = "never"\n';
  const volumes = { cacheBytes: 4 * 1024 ** 3, scratchBytes: 2 * 1024 ** 3 };
  const machine = await ensureUp({ scope, driver: 'process', configText, ...volumes });
  const result = await runKills({
    ...{ apiSocket: machine.apiSocket, root: machine.state.monitor.pid, rounds, seed },
    context: sleepingContext,
    log: (line) => console.log(line),
  });
  const wrong = result.untyped.length + result.nextFailed.length + result.leaks.length;
  console.log(JSON.stringify({ soak: 'kill', seed, wrong, ...result }));
  process.exitCode = wrong === 0 ? 0 : 1;
} finally {
  await clear();
}
