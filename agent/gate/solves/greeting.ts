import { readFields } from '../../../common/protobuf.ts';
import type { Call, CallTap } from '../call.ts';

/** What every HTTP/2 client begins with (RFC 9113, 3.4), here buildkitd as the client of a session. */
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
/** First bytes of a SETTINGS frame after its length: type 4, no flags, stream 0 (RFC 9113, 6.5). */
const settings = Buffer.from([4, 0, 0, 0, 0, 0]);
/** Bytes in which the greeting is looked for; it is less than a hundred. */
const most = 1024;
const headerBytes = 5;

/**
 * The first words that buildkitd says on every session, a preface and its settings, in two messages. They are learned from the
 * first session that comes about, so that others can be greeted before buildkitd has seen them.
 */
export class Greeting {
  #bytes: Buffer | undefined;

  /** Greets a session that is held. @returns whether it was; not before a greeting was learned */
  send(call: Call): boolean {
    return this.#bytes !== undefined && call.answerEarly(this.#bytes);
  }

  /** Looks at what buildkitd says on a session, as long as nothing is known. */
  learn(): CallTap {
    if (this.#bytes) return {};
    let heard: Buffer | undefined = Buffer.alloc(0);
    return {
      response: (chunk) => {
        if (heard === undefined || this.#bytes) return;
        heard = Buffer.concat([heard, chunk]);
        const greeting = firstWords(heard);
        if (greeting) this.#bytes = greeting;
        if (greeting || heard.length > most) heard = undefined;
      },
    };
  }
}

/** The two messages, with gRPC's frames, once they are there and are what they should be. */
function firstWords(heard: Buffer): Buffer | undefined {
  const first = messageEnd(heard, 0);
  const second = first && messageEnd(heard, first);
  if (first === undefined || second === undefined) return undefined;
  const said = [heard.subarray(headerBytes, first), heard.subarray(first + headerBytes, second)].map(dataOf);
  const fits = said[0]?.equals(preface) && said[1]?.subarray(3, 3 + settings.length).equals(settings);
  return fits ? heard.subarray(0, second) : undefined;
}

/** Where the message that begins here ends; undefined when not all of it is there. */
function messageEnd(heard: Buffer, at: number): number | undefined {
  if (heard.length < at + headerBytes) return undefined;
  const end = at + headerBytes + heard.readUInt32BE(at + 1);
  return end <= heard.length ? end : undefined;
}

/** BytesMessage: data = 1 (api/services/control/control.proto). */
function dataOf(message: Buffer): Buffer | undefined {
  try {
    for (const { number, bytes } of readFields(message)) if (number === 1) return bytes;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}
