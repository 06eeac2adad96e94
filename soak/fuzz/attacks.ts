import type { Attacker } from './attacker.ts';
import { floodAttacks } from './attacks-floods.ts';
import { frameAttacks } from './attacks-frames.ts';
import { heldAttacks } from './attacks-held.ts';

/** One connection's worth of harm; ends within some seconds, and the connection is then left. */
export type Attack = (attacker: Attacker) => Promise<void>;

/** All of them, by name. */
export const attacks: Readonly<Record<string, Attack>> = { ...frameAttacks, ...floodAttacks, ...heldAttacks };
