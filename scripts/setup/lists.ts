/** The lists in rootfs/: a name and a reason on each line, `#` comments, a leading `-` for what stays out. */
import { readFile } from 'node:fs/promises';

/** What a list says. */
export interface NameList {
  wanted: string[];
  unwanted: Set<string>;
}

/** Reads a list. */
export async function readNameList(file: string): Promise<NameList> {
  const wanted: string[] = [];
  const unwanted = new Set<string>();
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    const name = line.split(/[\s#]/, 1)[0];
    if (!name) continue;
    if (name.startsWith('-')) unwanted.add(name.slice(1));
    else wanted.push(name);
  }
  return { wanted, unwanted };
}
