import type { Attacker } from './attacker.ts';
import type { Attack } from './attacks.ts';
import { breakRule, rules } from './rules.ts';
import {
  callHeaders,
  empty,
  field,
  flags,
  frame,
  frameTypes,
  headers,
  message,
  methods,
  preface,
  settings,
} from './wire.ts';

/** A conversation that is in order: two calls with their messages. */
function inOrder(): Buffer {
  return Buffer.concat([
    ...[preface, settings(), headers(1, callHeaders(methods.workers)), message(1, empty)],
    ...[headers(3, callHeaders(methods.status)), message(3, field(1, 'nobody'))],
    frame(frameTypes.ping, flags.none, 0, Buffer.alloc(8)),
  ]);
}

/** Something nearly in order: some of its bits turned. */
function flipped(attacker: Attacker): Buffer {
  const bytes = inOrder();
  for (let flip = 0; flip < 1 + attacker.pick(8); flip++) {
    const at = attacker.pick(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << attacker.pick(8));
  }
  return bytes;
}

function randomFrame(attacker: Attacker): Buffer {
  const payload = attacker.bytes(attacker.pick(attacker.pick(4) === 0 ? 600 : 20));
  return frame(attacker.pick(12), attacker.pick(256), attacker.pick(3) === 0 ? 0 : attacker.pick(40), payload);
}

/** Connections whose bytes are wrong. */
export const frameAttacks: Record<string, Attack> = {
  async noise(attacker) {
    await attacker.send(attacker.bytes(1 + attacker.pick(2_000)));
    await attacker.linger(300);
  },
  async randomFrames(attacker) {
    await attacker.hello();
    for (let sent = 0; sent < 500 && !attacker.isClosed; sent++) await attacker.send(randomFrame(attacker));
    await attacker.linger(200);
  },
  async flippedBits(attacker) {
    await attacker.send(flipped(attacker), 6);
    await attacker.linger(200);
  },
  async cutOff(attacker) {
    const bytes = inOrder();
    await attacker.send(bytes.subarray(0, attacker.pick(bytes.length)), 4);
    if (attacker.pick(2) === 0) attacker.halfClose();
    await attacker.linger(500);
  },
  async againstTheRules(attacker) {
    const rule = rules[attacker.pick(rules.length)];
    if (rule) await breakRule(attacker, rule);
  },
  async twoHellos(attacker) {
    await attacker.hello();
    await attacker.hello();
    await attacker.linger(200);
  },
  async byteByByte(attacker) {
    for (const byte of inOrder()) if (!(await attacker.send(Buffer.from([byte]), 0.01))) return;
    await attacker.linger(1_000);
  },
};
