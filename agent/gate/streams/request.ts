import type { HeaderField } from '../call.ts';
import type { Origin } from '../recorder.ts';

/** A call as its client begins it. */
export interface CallStart {
  /** Its stream at the client. */
  id: number;
  path: string;
  origin: Origin;
  headers: HeaderField[];
  /** Whether nothing comes after the headers. */
  ended: boolean;
}

/** Fields of HTTP/1's connections, which have no place here (RFC 9113, 8.2.2). */
const ofConnections: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
const names = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** RFC 9113, 8.2.1. */
const notInValues = /[\0\r\n]/;

/** The path of a request; undefined when its headers are malformed (RFC 9113, 8.2 and 8.3). */
export function requestPath(headers: readonly HeaderField[]): string | undefined {
  const pseudo = new Map<string, string>();
  let fields = false;
  for (const [name, value] of headers) {
    if (notInValues.test(value)) return undefined;
    if (name.startsWith(':')) {
      if (fields || pseudo.has(name)) return undefined;
      pseudo.set(name, value);
    } else {
      fields = true;
      if (!names.test(name) || ofConnections.has(name)) return undefined;
    }
  }
  const path = pseudo.get(':path');
  return path && pseudo.has(':method') && pseudo.has(':scheme') ? path : undefined;
}
