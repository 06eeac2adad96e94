import { expect, test } from 'vitest';
import { StateBoard } from '../../../agent/api/state.ts';
import { heapGrowth } from '../../fixtures/heap.ts';

/** Watches until the signal fires; `seen` counts. */
async function count(board: StateBoard, signal: AbortSignal, seen: { states: number }): Promise<void> {
  for await (const _ of board.watch(signal)) seen.states++;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a watcher that stays for the life of the machine keeps nothing of each change', async () => {
  const board = new StateBoard();
  const end = new AbortController();
  const seen = { states: 0 };
  const watching = count(board, end.signal, seen);
  const change = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) {
      board.set('BOOTING', `step ${i}`);
      await turn();
    }
  };
  await change(1000);
  const grown = await heapGrowth(() => change(20_000));
  expect(seen.states).toBeGreaterThan(20_000);
  expect(grown).toBeLessThan(1024 ** 2);
  end.abort();
  await watching;
});

test('the end of one watch ends no other', async () => {
  const board = new StateBoard();
  const [first, second] = [new AbortController(), new AbortController()];
  const seen = { states: 0 };
  const [one, two] = [count(board, first.signal, { states: 0 }), count(board, second.signal, seen)];
  await turn();
  first.abort();
  await one;
  expect(seen.states).toBe(1);
  board.set('READY', 'taking builds');
  await turn();
  expect(seen.states).toBe(2);
  second.abort();
  await two;
});

test('what changes beside the state is told soon, and once for many times', async () => {
  const board = new StateBoard();
  const end = new AbortController();
  const seen = { states: 0 };
  const watching = count(board, end.signal, seen);
  await turn();
  for (let i = 0; i < 10; i++) {
    board.touch();
    await turn();
  }
  expect(seen.states).toBe(1);
  await expect.poll(() => seen.states, { interval: 5, timeout: 5000 }).toBe(2);
  board.touch();
  board.set('READY', 'taking builds');
  await turn();
  expect(seen.states).toBe(3);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(seen.states).toBe(3);
  end.abort();
  await watching;
});
