import { join } from 'node:path';
import { expect } from 'vitest';
import { Journal, type NewEvent } from '../../../../agent/builds/journal/journal.ts';
import { OpenFiles } from '../../../../agent/builds/journal/open-files.ts';
import { Room } from '../../../../agent/builds/journal/room.ts';
import type { Events } from '../../../../agent/builds/journal/stored-events.ts';
import type { StoreOptions } from '../../../../agent/builds/store.ts';
import { openLog } from '../../../../agent/log.ts';
import { codecOf } from '../../../../common/descriptors.ts';

/** A journal in `dir`. @param roomBytes bytes of disk for it */
export function makeJournal(
  dir: string,
  { memory = 1000, disk = 100_000_000, roomBytes = Number.POSITIVE_INFINITY, files = new OpenFiles() } = {},
): { journal: Journal; path: string; room: Room } {
  const path = join(dir, 'j');
  const room = new Room({ disk: roomBytes, unwritten: 64 * 1024 ** 2 });
  return { journal: new Journal({ path, files, room, limits: { memory, disk } }), path, room };
}

/** Options of a store in `dir`. */
export function storeOptions(dir: string, keep: Partial<StoreOptions['keep']> = {}): StoreOptions {
  const roomy = { journalBytes: 1e9, totalBytes: 1e9, ageMs: 1e9, builds: 1000 };
  return { dir, log: openLog('silent'), keep: { ...roomy, ...keep }, stepLog: { maxBytes: -1, maxBytesPerSecond: -1 } };
}

/** A status event with this text in place of a message. */
export const status = (text: string): NewEvent => ({ status: Buffer.from(text) });
/** The last event of a build that passed. */
export const passed: NewEvent = { durable: { afterMs: 1 } };

/** The events from `after` on, each checked to follow the one before: a status by its text, others by their kind. */
export async function texts(events: Events, after = 0): Promise<string[]> {
  const found: string[] = [];
  let last = after;
  for await (const { seq, bytes } of events.watch(after)) {
    expect(seq).toBe(++last);
    const event = codecOf('BuildEvent').decode(bytes);
    expect(event.seq).toBe(seq);
    found.push(event.status?.toString() ?? event.event ?? '');
  }
  return found;
}
