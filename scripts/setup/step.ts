/** What a person sees of set-up: one line a step, with how long it took. */

/** What a step may say while it runs. */
export type Say = (what: string) => void;

const width = 22;

/**
 * Runs one step and prints its name, what it said last, and how long it took. Work that takes longer than a second is
 * announced when it starts (through `say`), so that a long silence has a name.
 */
export async function step<T>(name: string, work: (say: Say) => Promise<T>): Promise<T> {
  const started = performance.now();
  let last = 'ready';
  const result = await work((what) => {
    last = 'done';
    console.error(`${name.padEnd(width)} ${what} …`);
  });
  console.error(`${name.padEnd(width)} ${last} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  return result;
}
