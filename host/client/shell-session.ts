import { once } from 'node:events';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { BuildvisorError } from '../../common/errors.ts';
import type { ShellInput } from '../../common/generated/types/buildvisor/v1/ShellInput.ts';
import type { ShellOutput__Output } from '../../common/generated/types/buildvisor/v1/ShellOutput.ts';
import { fromServiceError } from '../../common/grpc-errors.ts';
import { readMessages } from './read-messages.ts';
import type { ShellExit, ShellOptions, ShellSession } from './types.ts';

/** Bytes of input in one message. */
const chunkBytes = 32 * 1024;

/** Opens a shell at once. Its output must be read for {@link ShellSession.exit} to settle. */
export function openShell(
  start: () => ClientDuplexStream<ShellInput, ShellOutput__Output>,
  { command = [], terminal, signal }: ShellOptions,
): ShellSession {
  const call = start();
  let failure: Error | undefined;
  // A call may fail before anybody reads it; whoever does so later is told.
  call.on('error', (error) => {
    failure = error;
  });
  const exit = Promise.withResolvers<ShellExit>();
  exit.promise.catch(() => undefined);
  const { columns = 80, rows = 24, term = '' } = terminal ?? {};
  const size = terminal === undefined ? null : { columns, rows };
  call.write({ open: { command, tty: terminal !== undefined, size, term } });
  async function* output(): ShellSession['output'] & AsyncGenerator {
    try {
      if (failure) throw failure;
      for await (const message of readMessages(call, signal)) {
        if (message.exit) exit.resolve(message.exit);
        else if (message.stdout !== undefined && message.stdout !== null)
          yield { stream: 'stdout' as const, data: message.stdout };
        else if (message.stderr !== undefined && message.stderr !== null)
          yield { stream: 'stderr' as const, data: message.stderr };
      }
      exit.reject(new BuildvisorError('VM_FAILED', 'The shell ended without an exit code'));
    } catch (error) {
      const ours = fromServiceError(error);
      exit.reject(ours);
      throw ours;
    }
  }
  return {
    async write(data) {
      for (let at = 0; at < data.length; at += chunkBytes) {
        if (!call.write({ data: data.subarray(at, at + chunkBytes) })) await once(call, 'drain');
      }
    },
    end: () => void call.write({ eof: true }),
    resize: (newColumns, newRows) => void call.write({ resize: { columns: newColumns, rows: newRows } }),
    output: output(),
    exit: exit.promise,
    close: () => call.cancel(),
  };
}
