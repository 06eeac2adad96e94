/**
 * `npm run soak -- kill [ROUNDS] [SEED]`: kills the agent, buildkitd, a step and buildctl of a machine in turn, at random moments
 * of builds. The last line is one JSON object; the exit code is 1 when anything went wrong.
 */
import { TestMachines } from '../test/fixtures/machines.ts';
import { sleepingContext } from './kill/context.ts';
import { runKills } from './kill/kills.ts';

const [rounds = 200, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
const gib = 1024 ** 3;
const machines = new TestMachines({ driver: 'process', cacheBytes: 4 * gib, scratchBytes: 2 * gib });
machines.closeOnSignals();
try {
  const configText = '# buildvisor config 1\n[machine]\nidle-timeout = "never"\n';
  const machine = await machines.up(machines.scope('soak/kill'), { configText });
  const result = await runKills({
    ...{ apiSocket: machine.apiSocket, root: machine.state.monitor.pid, rounds, seed },
    context: sleepingContext,
    log: (line) => console.log(line),
  });
  const wrong = result.untyped.length + result.nextFailed.length + result.leaks.length;
  console.log(JSON.stringify({ soak: 'kill', seed, wrong, ...result }));
  process.exitCode = wrong === 0 ? 0 : 1;
} finally {
  await machines.close();
}
