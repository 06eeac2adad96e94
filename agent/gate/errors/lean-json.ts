import { randomUUID } from 'node:crypto';

/** Longest string that is read into a value, in bytes; a longer one stands in it by a name, and stays where it is. */
const longestString = 4096;
/** Longest JSON that is parsed, in bytes, its long strings not counted. */
const longestRest = 8 * 1024 ** 2;

const quote = 0x22;
const backslash = 0x5c;

/** A JSON text of which only the short strings were read, so that what holds a file of many megabytes is looked at cheaply. */
export class LeanJson {
  /** What it says. */
  readonly value: unknown;
  readonly #strings: readonly Buffer[];
  readonly #mark: string;

  /** @throws SyntaxError when it is no JSON, or when there is too much of it */
  constructor(json: Buffer) {
    this.#mark = `long:${randomUUID()}:`;
    const { rest, strings } = takeOutStrings(json, this.#mark);
    this.#strings = strings;
    this.value = parse(rest);
  }

  /** The bytes between the quotes of a string that was left out; undefined of anything else. They are not unescaped. */
  longString(value: unknown): Buffer | undefined {
    if (typeof value !== 'string' || !value.startsWith(this.#mark)) return undefined;
    return this.#strings[Number(value.slice(this.#mark.length))];
  }

  /** A value made of this one's parts as JSON, its long strings among them. */
  write(value: unknown): Buffer {
    const pieces = JSON.stringify(value).split(this.#mark);
    const out: Buffer[] = pieces.slice(0, 1).map((piece) => Buffer.from(piece));
    for (const piece of pieces.slice(1)) {
      const end = piece.indexOf('"');
      out.push(this.#strings[Number(piece.slice(0, end))] ?? none, Buffer.from(piece.slice(end)));
    }
    return Buffer.concat(out);
  }
}

/** Parses; of a list that is too long its beginning, where the list is the last thing in an object, as the ranges of a source are. */
function parse(rest: Buffer): unknown {
  if (rest.length <= longestRest) return JSON.parse(rest.toString());
  const text = rest.toString('utf8', 0, longestRest);
  return JSON.parse(`${text.slice(0, text.lastIndexOf('},{') + 1)}]}`);
}

function takeOutStrings(json: Buffer, mark: string): { rest: Buffer; strings: Buffer[] } {
  const pieces: Buffer[] = [];
  const strings: Buffer[] = [];
  let from = 0;
  let at = 0;
  for (let open = json.indexOf(quote); open >= 0; open = json.indexOf(quote, at)) {
    const close = endOfString(json, open + 1);
    at = close + 1;
    if (close - open <= longestString) continue;
    pieces.push(json.subarray(from, open + 1), Buffer.from(`${mark}${strings.length}`));
    strings.push(json.subarray(open + 1, close));
    from = close;
  }
  pieces.push(json.subarray(from));
  return { rest: Buffer.concat(pieces), strings };
}

/** Where a string's closing quote is. */
function endOfString(json: Buffer, from: number): number {
  for (let close = json.indexOf(quote, from); close >= 0; close = json.indexOf(quote, close + 1)) {
    let escapes = 0;
    while (json[close - 1 - escapes] === backslash) escapes++;
    if (escapes % 2 === 0) return close;
  }
  throw new SyntaxError('a JSON string has no end');
}

const none = Buffer.alloc(0);
