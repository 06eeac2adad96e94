import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { BuildvisorError } from '../../common/errors.ts';
import { withLimit } from '../../common/wait.ts';

/** An answer or event of QEMU's machine protocol (docs/interop/qmp-spec.rst). */
interface QmpMessage {
  QMP?: object;
  return?: unknown;
  error?: { class: string; desc: string };
}

/**
 * Runs one command of QEMU's machine protocol (`system_powerdown`, `quit`, …) on its socket.
 * @throws BuildvisorError `COMMAND_FAILED`, `TIMED_OUT`; a system error when nobody listens.
 */
export async function runQmp(socketPath: string, command: string, limitMs: number): Promise<unknown> {
  const socket = connect(socketPath);
  try {
    return await withLimit({ limitMs, what: `QEMU to answer ${command}` }, async (signal) => {
      await once(socket, 'connect', { signal });
      const answers = createInterface({ input: socket })[Symbol.asyncIterator]();
      const next = async (): Promise<QmpMessage> => {
        for (;;) {
          const { value, done } = await answers.next();
          if (done) throw new BuildvisorError('COMMAND_FAILED', `QEMU closed its socket before it answered ${command}`);
          const message = JSON.parse(value) as QmpMessage;
          if ('QMP' in message || 'return' in message || 'error' in message) return message;
        }
      };
      await next();
      for (const execute of ['qmp_capabilities', command]) {
        socket.write(`${JSON.stringify({ execute })}\n`);
        const { error, return: result } = await next();
        if (error !== undefined)
          throw new BuildvisorError('COMMAND_FAILED', `QEMU refused ${execute}: ${error.desc}`, {
            facts: { command: execute, class: error.class },
          });
        if (execute === command) return result;
      }
      return undefined;
    });
  } finally {
    socket.destroy();
  }
}
