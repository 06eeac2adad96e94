/**
 * SHA-256 (FIPS 180-4) of short names, in plain JavaScript: loading `node:crypto` takes 5 ms, more than all the rest of finding a
 * VM, and nothing here is a secret.
 */

const primes = [2];
for (let candidate = 3; primes.length < 64; candidate += 2)
  if (primes.every((prime) => candidate % prime !== 0)) primes.push(candidate);
/** The first 32 bits of the fraction of a root of each prime (4.2.2 and 5.3.3). */
const fraction = (root: number): number => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
const rounds = primes.map((prime) => fraction(Math.cbrt(prime)));
const start = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));

const at = (words: ArrayLike<number>, index: number): number => words[index] ?? 0;
const turn = (word: number, bits: number): number => (word >>> bits) | (word << (32 - bits));

/** The first 16 hex digits of the name's SHA-256. */
export function hashName(name: string): string {
  const state = Int32Array.from(start);
  const padded = pad(Buffer.from(name));
  for (let block = 0; block < padded.length; block += 64) mix(state, padded.subarray(block, block + 64));
  return [at(state, 0), at(state, 1)].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

/** The message, a one bit, zeros, and its length in bits, in whole blocks of 64 bytes (5.1.1). */
function pad(message: Buffer): Buffer {
  const padded = Buffer.alloc(Math.ceil((message.length + 9) / 64) * 64);
  message.copy(padded);
  padded[message.length] = 0x80;
  padded.writeUInt32BE(message.length * 8, padded.length - 4);
  return padded;
}

/** Takes one block in (6.2.2). */
function mix(state: Int32Array, block: Buffer): void {
  const words = new Int32Array(64);
  for (let i = 0; i < 16; i++) words[i] = block.readInt32BE(i * 4);
  for (let i = 16; i < 64; i++) {
    const a = at(words, i - 15);
    const b = at(words, i - 2);
    const s0 = turn(a, 7) ^ turn(a, 18) ^ (a >>> 3);
    const s1 = turn(b, 17) ^ turn(b, 19) ^ (b >>> 10);
    words[i] = at(words, i - 16) + s0 + at(words, i - 7) + s1;
  }
  const v = Int32Array.from(state);
  for (let i = 0; i < 64; i++) {
    const a = at(v, 0);
    const e = at(v, 4);
    const choice = (e & at(v, 5)) ^ (~e & at(v, 6));
    const majority = (a & at(v, 1)) ^ (a & at(v, 2)) ^ (at(v, 1) & at(v, 2));
    const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const next = (at(v, 7) + s1 + choice + at(rounds, i) + at(words, i)) | 0;
    v.copyWithin(1, 0, 7);
    v[4] = at(v, 4) + next;
    v[0] = next + s0 + majority;
  }
  for (let i = 0; i < 8; i++) state[i] = at(state, i) + at(v, i);
}
