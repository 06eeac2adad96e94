import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HeldBudget, type HeldLimits } from '../../../../agent/gate/streams/held-budget.ts';
import type { Claim, HeldShare } from '../../../../agent/gate/streams/held-share.ts';

/** Holds so many calls of one connection. */
function fill(share: HeldShare, calls: number, bytes: number, refused: () => void = () => undefined): Claim[] {
  return Array.from({ length: calls }, () => share.enter(bytes, refused)).filter((claim) => claim !== undefined);
}

test('a bake of 4000 targets fits, with four calls of each, and others’ builds beside it harm it in nothing', () => {
  const budget = new HeldBudget();
  const bake = budget.share();
  let lost = 0;
  // Some 2 KiB of headers of each call, and a message of the Solve's.
  const held = fill(bake, 16_000, 2048, () => lost++);
  for (const [at, claim] of held.entries()) if (at % 4 === 0) expect(bake.grow(claim, 4096)).toBe(true);
  expect(bake.calls).toBe(16_000);
  for (let build = 0; build < 500; build++) expect(fill(budget.share(), 4, 2048)).toHaveLength(4);
  expect(lost).toBe(0);
});

test('who is alone may not have the reserve, nor who has more than a share', () => {
  const budget = new HeldBudget({ calls: 100, bytes: 1e6 });
  const [first, second] = [budget.share(), budget.share()];
  expect(fill(first, 100, 1)).toHaveLength(90);
  expect(fill(second, 5, 1)).toHaveLength(5);
  expect(first.enter(1, () => undefined)).toBeUndefined();
  expect(first.calls).toBe(90);
});

test('room is made by the newest calls of who has most, also when a call grows', () => {
  const budget = new HeldBudget({ calls: 100, bytes: 1000 });
  const [first, second, third] = [budget.share(), budget.share(), budget.share()];
  const gone: number[] = [];
  const claims = Array.from({ length: 9 }, (_, at) => first.enter(100, () => gone.push(at)));
  const [small] = fill(second, 1, 50);
  if (!small) throw new Error('not held');
  expect(second.grow(small, 200)).toBe(true);
  expect(gone).toEqual([8, 7]);
  expect(fill(third, 1, 300)).toHaveLength(1);
  expect(gone).toEqual([8, 7, 6, 5, 4]);
  // One that was refused takes no more, and nothing is given back twice.
  expect(claims[8] && first.grow(claims[8], 1)).toBe(false);
  for (const claim of claims) if (claim) first.leave(claim);
  expect(budget).toMatchObject({ calls: 2, bytes: 550 });
});

test('a call that waits no longer is not kept, whether it left or was refused', () => {
  const share = new HeldBudget({ calls: 10, bytes: 1000 }).share();
  const claims = fill(share, 9, 1);
  share.refuseNewest();
  if (claims[0]) share.leave(claims[0]);
  expect(claims.filter(({ onRefused }) => onRefused)).toEqual(claims.slice(1, 8));
});

const limits: HeldLimits = { calls: 24, bytes: 1000 };
const kinds = ['calls', 'bytes'] as const;
const connection = fc.nat(4);
const aStep = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ enter: connection, bytes: fc.oneof(fc.nat(20), fc.nat(400)), times: fc.nat(12) }),
  },
  { weight: 3, arbitrary: fc.record({ grow: connection, which: fc.nat(12), bytes: fc.nat(400) }) },
  { weight: 2, arbitrary: fc.record({ leave: connection, which: fc.nat(12) }) },
  { weight: 1, arbitrary: fc.record({ leaveAll: connection }) },
);

/** Connections that hold, and are held to the rule. */
class Model {
  readonly budget = new HeldBudget(limits);
  readonly #all = Array.from({ length: 5 }, () => ({ share: this.budget.share(), held: [] as Claim[] }));
  /** Whose calls were refused just now, and what they had. */
  #refused: { by: Holder; had: HeldLimits }[] = [];

  enter(index: number, bytes: number): void {
    const holder = this.#at(index);
    const claim = this.#ask(holder, { calls: 1, bytes }, () => {
      const entered = holder.share.enter(bytes, () => {
        expect(holder.held.pop(), 'the newest').toBe(entered);
        const { calls, bytes: left } = holder.share;
        this.#refused.push({ by: holder, had: { calls: calls + 1, bytes: left + (entered?.bytes ?? 0) } });
      });
      return entered;
    });
    if (claim) holder.held.push(claim);
  }

  grow(index: number, which: number, bytes: number): void {
    const holder = this.#at(index);
    const claim = holder.held[which];
    if (claim) this.#ask(holder, { calls: 0, bytes }, () => holder.share.grow(claim, bytes) || undefined);
  }

  leave(index: number, which: number): void {
    const holder = this.#at(index);
    for (const claim of holder.held.splice(which, 1)) holder.share.leave(claim);
  }

  leaveAll(index: number): void {
    const holder = this.#at(index);
    for (const claim of holder.held.splice(0)) holder.share.leave(claim);
  }

  check(): void {
    for (const kind of kinds) {
      expect(this.budget[kind]).toBeLessThanOrEqual(limits[kind]);
      expect(this.budget[kind]).toBe(this.#all.reduce((sum, { share }) => sum + share[kind], 0));
    }
    for (const { share, held } of this.#all) {
      expect(share.calls).toBe(held.length);
      expect(share.bytes).toBe(held.reduce((sum, { bytes }) => sum + bytes, 0));
    }
  }

  #ask<Got>(holder: Holder, wanted: HeldLimits, act: () => Got | undefined): Got | undefined {
    const holders = this.#all.filter((other) => other === holder || other.share.calls > 0).length;
    const own = { calls: holder.share.calls, bytes: holder.share.bytes };
    const all = { calls: this.budget.calls, bytes: this.budget.bytes };
    const isOver = (kind: keyof HeldLimits): boolean => own[kind] + wanted[kind] > limits[kind] / Math.max(2, holders);
    const got = act();
    const refused = this.#refused.splice(0);
    if (got === undefined) {
      const isShort = (kind: keyof HeldLimits): boolean => all[kind] + wanted[kind] > 0.9 * limits[kind];
      expect(
        kinds.some((kind) => isOver(kind) && isShort(kind)),
        'refused within its share',
      ).toBe(true);
      expect(refused).toEqual([]);
    }
    for (const { by, had } of refused) {
      expect(by).not.toBe(holder);
      const hadMore = (kind: keyof HeldLimits): boolean =>
        !isOver(kind) && had[kind] > limits[kind] / Math.max(2, holders) && had[kind] > own[kind] + wanted[kind];
      expect(kinds.some(hadMore), 'refused for somebody who has more').toBe(true);
    }
    return got;
  }

  #at(index: number): Holder {
    const holder = this.#all[index];
    if (!holder) throw new Error(`no connection ${index}`);
    return holder;
  }
}
interface Holder {
  share: HeldShare;
  held: Claim[];
}

test('whatever comes and goes: never over the limits, nobody is refused a share, and all is given back', () => {
  fc.assert(
    fc.property(fc.array(aStep, { maxLength: 80 }), (steps) => {
      const model = new Model();
      for (const step of steps) {
        if ('enter' in step) for (let time = 0; time < step.times; time++) model.enter(step.enter, step.bytes);
        else if ('grow' in step) model.grow(step.grow, step.which, step.bytes);
        else if ('leave' in step) model.leave(step.leave, step.which);
        else model.leaveAll(step.leaveAll);
        model.check();
      }
      for (let index = 0; index < 5; index++) model.leaveAll(index);
      model.check();
      expect(model.budget).toMatchObject({ calls: 0, bytes: 0 });
    }),
    { numRuns: 500 },
  );
});
