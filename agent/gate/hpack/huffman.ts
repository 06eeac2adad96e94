import { HpackError } from './errors.ts';

/**
 * Lengths in bits of the codes for the bytes 0 to 255 and for the end of a string (RFC 7541, Appendix B). The code is canonical:
 * in the order of length, then symbol, each code is the one before plus one, with zeros added as they get longer.
 */
// biome-ignore format: a table
export const codeLengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];

/** Each symbol's code, by the rule above. */
export function huffmanCodes(): number[] {
  const symbols = [...codeLengths.keys()].sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  const codes: number[] = [];
  let code = 0;
  let length = lengthOf(symbols[0] ?? 0);
  for (const symbol of symbols) {
    code *= 2 ** (lengthOf(symbol) - length);
    length = lengthOf(symbol);
    codes[symbol] = code++;
  }
  return codes;
}

function lengthOf(symbol: number): number {
  return codeLengths[symbol] ?? 0;
}

const endOfString = 256;
/** An entry of the table: the state after four bits in its low byte, a byte that came out above it, and these. */
const emits = 1 << 16;
const fails = 1 << 17;

/**
 * What four bits do in each state, 16 entries a state: no code is shorter than five bits, so that at most one byte comes out of
 * four. A state is a node of the code's tree; the root is 0.
 */
const steps = new Uint32Array(256 * 16);
/** States in which a string may end: the bits since its last byte are at most seven, all ones (RFC 7541, 5.2). */
const mayEnd = new Uint8Array(256);
fillTables();

function fillTables(): void {
  // Each node's two branches: another node, or a symbol as -1 - symbol.
  const tree: [number, number][] = [[0, 0]];
  for (const [symbol, code] of huffmanCodes().entries()) addCode(tree, symbol, code);
  for (const state of tree.keys()) {
    for (let nibble = 0; nibble < 16; nibble++) steps[state * 16 + nibble] = stepOf(tree, state, nibble);
  }
  for (let state = 0, bits = 0; bits < 8; bits++) {
    mayEnd[state] = 1;
    state = tree[state]?.[1] ?? 0;
  }
}

function addCode(tree: [number, number][], symbol: number, code: number): void {
  let node = 0;
  for (let bit = lengthOf(symbol) - 1; bit >= 0; bit--) {
    const branches = tree[node] ?? [0, 0];
    const side = ((code >>> bit) & 1) as 0 | 1;
    if (bit === 0) branches[side] = -1 - symbol;
    else if (branches[side] === 0) branches[side] = tree.push([0, 0]) - 1;
    node = branches[side];
  }
}

function stepOf(tree: readonly [number, number][], from: number, nibble: number): number {
  let state = from;
  let out = 0;
  for (let bit = 3; bit >= 0; bit--) {
    const next = tree[state]?.[((nibble >>> bit) & 1) as 0 | 1] ?? 0;
    if (next === -1 - endOfString) return fails;
    if (next < 0) out = emits | ((-1 - next) << 8);
    state = Math.max(next, 0);
  }
  return out | state;
}

/**
 * What eight bits do: the state in the low byte, above it up to two bytes that come out, then how many, and {@link failsInByte}.
 * It is worth its 256 KiB and its making for long strings only.
 */
let byteSteps: Uint32Array | undefined;
const failsInByte = 1 << 26;
const longString = 16 * 1024;

function makeByteSteps(): Uint32Array {
  const table = new Uint32Array(256 * 256);
  for (let state = 0; state < 256; state++) {
    for (let byte = 0; byte < 256; byte++) table[state * 256 + byte] = byteStep(state, byte);
  }
  return table;
}

function byteStep(state: number, byte: number): number {
  const high = steps[state * 16 + (byte >>> 4)] ?? fails;
  const low = steps[(high & 0xff) * 16 + (byte & 15)] ?? fails;
  if ((high | low) & fails) return failsInByte;
  const out = [high, low].filter((step) => step & emits).map((step) => (step >>> 8) & 0xff);
  return (low & 0xff) | ((out[0] ?? 0) << 8) | ((out[1] ?? 0) << 16) | (out.length << 24);
}

/**
 * The room that decoding so many bytes of Huffman code takes: the shortest code has five bits, one may have begun before them, and
 * {@link HuffmanReader} writes one byte further than it means.
 */
export function roomFor(length: number): number {
  return Math.ceil((length * 8) / 5) + 2;
}

/** Decodes one string, whole or in pieces. */
export class HuffmanReader {
  #state = 0;

  /**
   * Decodes the bytes `from` to `to` of `code` into `into`, which has {@link roomFor} them.
   * @returns where in `into` it ended
   * @throws HpackError when the code has its end-of-string symbol in it
   */
  decode(code: Buffer, from: number, to: number, into: Uint8Array, at: number): number {
    if (to - from >= longString) return this.#decodeLong(code, from, to, into, at);
    let state = this.#state;
    let end = at;
    for (let i = from; i < to; i++) {
      const byte = code[i] ?? 0;
      const high = steps[state * 16 + (byte >>> 4)] ?? fails;
      if (high & emits) into[end++] = (high >>> 8) & 0xff;
      const low = steps[(high & 0xff) * 16 + (byte & 15)] ?? fails;
      if (low & emits) into[end++] = (low >>> 8) & 0xff;
      if ((high | low) & fails) throw new HpackError('a Huffman-coded string has its end inside');
      state = low & 0xff;
    }
    this.#state = state;
    return end;
  }

  #decodeLong(code: Buffer, from: number, to: number, into: Uint8Array, at: number): number {
    byteSteps ??= makeByteSteps();
    const table = byteSteps;
    let state = this.#state;
    let end = at;
    let all = 0;
    for (let i = from; i < to; i++) {
      const step = table[(state << 8) | (code[i] ?? 0)] ?? failsInByte;
      all |= step;
      // Both, whether they came out or not: the next ones go over them.
      into[end] = (step >>> 8) & 0xff;
      into[end + 1] = (step >>> 16) & 0xff;
      end += (step >>> 24) & 3;
      state = step & 0xff;
    }
    if (all & failsInByte) throw new HpackError('a Huffman-coded string has its end inside');
    this.#state = state;
    return end;
  }

  /** The string ends here. @throws HpackError when it is padded with anything but less than eight ones */
  finish(): void {
    const state = this.#state;
    this.#state = 0;
    if (mayEnd[state] !== 1) throw new HpackError('a Huffman-coded string is padded wrongly');
  }
}
