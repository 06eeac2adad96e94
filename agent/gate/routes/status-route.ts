import { readString } from '../../../common/protobuf.ts';
import type { Logger } from '../../log.ts';
import type { Call, CallTap } from '../call.ts';
import { MessageReader } from '../messages.ts';
import type { StatusStream } from '../solves/recordings.ts';
import { grpcCodes } from '../status.ts';
import { Opening } from './opening.ts';
import { progressEnds } from './progress-ends.ts';
import type { RouteContext } from './router.ts';

/** How long a Solve may come after its Status before buildkitd is asked whether it knows the build, in milliseconds. */
const askAfterMs = 50;

/** A Status: held with its build, and recorded. */
export function statusRoute({ solves, recordings, history, traces, loose, log }: RouteContext, call: Call): CallTap {
  let stream: StatusStream | undefined;
  const opening = new Opening((message) => {
    const ref = refOf(message, log);
    if (ref === '') {
      loose.pass(call);
      return;
    }
    stream = recordings.openStatus(ref);
    const open = (): void => {
      call.headers = traces.of(ref, call.headers);
      call.open();
    };
    solves.whenOpen(ref, { call, open });
    if (call.isOpen || call.isOver || solves.find(ref)) return;
    // A client makes the calls of a build together: one whose Solve does not come at once may ask for a build of long ago.
    const timer = setTimeout(async () => {
      if (!solves.find(ref) && (await history.knows(ref)) && !solves.find(ref)) loose.pass(call, open);
    }, askAfterMs);
    call.whenOver(() => clearTimeout(timer));
  }, call);
  const responses = new MessageReader((message) => {
    if (stream) recordings.status(stream, message);
  });
  return {
    request: (chunk) => opening.push(chunk),
    requestEnded: () => opening.end(),
    response: (chunk) => responses.push(chunk),
    ending: (status) => {
      if (stream === undefined || status.code !== grpcCodes.resourceExhausted) return undefined;
      log.warn({ ref: stream.ref, error: status.message }, "a build's progress is too large for BuildKit itself");
      const message = progressEnds();
      recordings.status(stream, message);
      return { status: { code: grpcCodes.ok, message: '', details: undefined }, message };
    },
    outlivesClient: () => stream !== undefined && recordings.isNeeded(stream),
    ended: () => {
      if (responses.broken)
        log.warn({ ref: stream?.ref, error: responses.broken.message }, 'a build was not recorded in full');
      if (stream) recordings.closeStatus(stream);
    },
  };
}

function refOf(message: Buffer, log: Logger): string {
  try {
    return readString(message, 1);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    log.debug({ error: error.message }, 'a Status that cannot be read');
    return '';
  }
}
