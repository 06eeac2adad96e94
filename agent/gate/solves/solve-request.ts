import { readCutFields } from '../../../common/protobuf.ts';
import { readSolveAbout, type SolveAbout } from '../about.ts';

/** What matters here of a SolveRequest (api/services/control/control.proto). */
export interface SolveRequest {
  /** The build's name, chosen by the client. */
  ref: string;
  /** What a client asks for its own sake, such as buildx to learn what buildkitd can do; it is no build. */
  internal: boolean;
  /** Neither a frontend nor a definition: the client itself is the frontend, by calls to the LLBBridge. */
  isGateway: boolean;
  /** Sessions it uses: its own, that of its policy, and those shared by several builds. */
  sessions: string[];
  /** For whoever looks at the build later. */
  about: SolveAbout;
}

/** Sessions of a build that are looked at. A client has one of its own and one that its builds share. */
const mostSessions = 16;

/** Reads a message, or the beginning of one: what comes after the cut is then not known. */
export function readSolveRequest(message: Buffer): SolveRequest {
  const about = readSolveAbout(message);
  const request: SolveRequest = { ref: '', internal: false, isGateway: true, sessions: [], about };
  const sessions = new Set<string>();
  for (const { number, bytes, value } of readCutFields(message))
    switch (number) {
      case 1:
        request.ref = String(bytes ?? '');
        break;
      case 2:
      case 6:
        if (bytes !== undefined && bytes.length > 0) request.isGateway = false;
        break;
      case 5:
      case 15:
        sessions.add(String(bytes ?? ''));
        break;
      case 7: {
        const [name, session] = readEntry(bytes);
        // client/llb: the session that a local source comes from.
        if (name.startsWith('local-sessionid:')) sessions.add(session);
        break;
      }
      case 11:
        request.internal = value === 1;
    }
  request.sessions = [...sessions].filter((id) => id !== '').slice(0, mostSessions);
  return request;
}

function readEntry(bytes: Buffer | undefined): [name: string, value: string] {
  const entry = { name: '', value: '' };
  for (const field of readCutFields(bytes ?? Buffer.alloc(0)))
    if (field.number === 1) entry.name = String(field.bytes ?? '');
    else if (field.number === 2) entry.value = String(field.bytes ?? '');
  return [entry.name, entry.value];
}
