import { codecOf } from '../../../common/descriptors.ts';
import type { BuildEvent__Output } from '../../../common/generated/types/buildvisor/v1/BuildEvent.ts';
import { type JournalHead, readRecords } from './records.ts';
import { type Marks, markEvery } from './stored-events.ts';

/** What lies in a journal's file. */
export interface LoadedJournal {
  head: JournalHead;
  events: { lastSeq: number; bytes: number; marks: Marks };
  /** The last two events: among them is the result, if there is one. */
  last: BuildEvent__Output[];
  /** Where the last whole record ends; what comes after it was cut off. */
  end: number;
}

/** Reads a journal that an earlier agent wrote. @throws RangeError when it is none */
export async function loadJournal(path: string): Promise<LoadedJournal> {
  let head: JournalHead | undefined;
  const events = { lastSeq: 0, bytes: 0, marks: [] as Marks };
  let last: Buffer[] = [];
  for await (const record of readRecords(path, 0)) {
    events.bytes = record.end;
    if (record.head) {
      head = record.head;
      continue;
    }
    const { seq, bytes } = record.event;
    if (seq !== events.lastSeq + 1) throw new RangeError(`event ${seq} follows ${events.lastSeq}`);
    events.lastSeq = seq;
    const mark = events.marks.at(-1);
    if (mark === undefined || record.start - mark.at >= markEvery) events.marks.push({ seq, at: record.start });
    last = [...last.slice(-1), bytes];
  }
  if (head === undefined) throw new RangeError('the file has no head');
  return { head, events, last: last.map((bytes) => codecOf('BuildEvent').decode(bytes)), end: events.bytes };
}
