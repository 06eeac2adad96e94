import { HpackError } from './errors.ts';

/** Longest string and highest index that is read: no block that is taken has as much. */
export const maxInteger = 2 ** 30;

/** A number that has come in whole, and where it ended. */
export interface Integer {
  value: number;
  end: number;
}

/**
 * Reads a number whose first byte has it, or its beginning, in the low `bits` bits (RFC 7541, 5.1).
 * @returns undefined when the block ends before the number does
 * @throws HpackError over {@link maxInteger}, or with more than a few bytes of zeros
 */
export function readInteger(block: Buffer, at: number, bits: number): Integer | undefined {
  const most = 2 ** bits - 1;
  let value = (block[at] ?? 0) & most;
  if (value < most) return { value, end: at + 1 };
  for (let i = at + 1, scale = 1; ; i++, scale *= 128) {
    const byte = block[i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * scale;
    if (value > maxInteger || i - at > 5) throw new HpackError('a number is too long');
    if (byte < 0x80) return { value, end: i + 1 };
  }
}

/** How many bytes a number takes. */
export function integerBytes(value: number, bits: number): number {
  const most = 2 ** bits - 1;
  if (value < most) return 1;
  let bytes = 2;
  for (let rest = value - most; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}

/** Writes a number into the low `bits` bits at `at` and what follows; `first` is the rest of the first byte. @returns where it ended */
export function writeInteger(into: Buffer, at: number, value: number, bits: number, first: number): number {
  const most = 2 ** bits - 1;
  if (value < most) {
    into[at] = first | value;
    return at + 1;
  }
  into[at] = first | most;
  let rest = value - most;
  let end = at + 1;
  for (; rest >= 128; rest = Math.floor(rest / 128)) into[end++] = (rest % 128) | 0x80;
  into[end++] = rest;
  return end;
}
