import { randomOf } from '../../test/fixtures/random.ts';

/** Who builds. */
export const clientKinds = ['buildctl', 'buildx', 'cli', 'api'] as const;
export type ClientKind = (typeof clientKinds)[number];

/**
 * What becomes of the client: left to finish; asked to stop (an interrupt, or `Cancel` of the API); its connections torn; killed.
 */
export const clientEnds = ['finish', 'cancel', 'tear', 'kill'] as const;
export type ClientEnd = (typeof clientEnds)[number];

/** One build and its client's fate. */
export interface PlannedClient {
  number: number;
  kind: ClientKind;
  end: ClientEnd;
  /** Milliseconds from the client's start to its end. */
  afterMs: number;
}

/** Longest time that a client is left alone, in milliseconds: a build with its wait for a slot takes a few seconds. */
const longestMs = 4_000;

/** The same builds for the same seed. One in five is left to finish. */
export function planClients(rounds: number, seed: number): PlannedClient[] {
  const random = randomOf(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  return Array.from({ length: rounds }, (_, index) => ({
    number: index + 1,
    kind: pick(clientKinds),
    end: random() < 0.2 ? 'finish' : pick(clientEnds.slice(1)),
    afterMs: Math.round(random() ** 2 * longestMs),
  }));
}
