/** A path into a TOML document: keys, and indexes of lists. */
export type KeyPath = readonly (string | number)[];

/**
 * Lines of the keys and table headers of a TOML document that parses, as no TOML library tells them. Keys inside inline
 * tables and list items have the line of the key they belong to.
 * @returns a function that gives the line (from 1) of a path, or of its nearest parent that has one
 */
export function locateKeys(toml: string): (path: KeyPath) => number | undefined {
  const lines = new Map<string, number>();
  const lists = new Map<string, number>();
  let prefix: (string | number)[] = [];
  const scan = new Scanner(toml);
  for (scan.skipBlank(); !scan.done; scan.skipBlank()) {
    const { line } = scan;
    if (scan.take('[')) {
      const list = scan.take('[');
      const keys = scan.keys();
      prefix = resolveHeader(keys, list, lists);
      scan.skipLine();
      note(lines, prefix, line);
    } else {
      note(lines, [...prefix, ...scan.keys()], line);
      scan.skipValue();
    }
  }
  return (path) => {
    for (let length = path.length; length > 0; length--) {
      const line = lines.get(JSON.stringify(path.slice(0, length)));
      if (line !== undefined) return line;
    }
    return undefined;
  };
}

function note(lines: Map<string, number>, path: KeyPath, line: number): void {
  for (let length = 1; length <= path.length; length++) {
    const key = JSON.stringify(path.slice(0, length));
    if (!lines.has(key)) lines.set(key, line);
  }
}

/** The full path of a header: where a part of it names a list of tables, its latest item is meant. */
function resolveHeader(keys: string[], list: boolean, lists: Map<string, number>): (string | number)[] {
  const path: (string | number)[] = [];
  for (const [index, key] of keys.entries()) {
    path.push(key);
    const name = JSON.stringify(path);
    const last = lists.get(name);
    if (list && index === keys.length - 1) lists.set(name, last === undefined ? 0 : last + 1);
    const item = lists.get(name);
    if (item !== undefined) path.push(item);
  }
  return path;
}

/** Steps through TOML text by just as much of its grammar as finding keys takes. */
class Scanner {
  line = 1;
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get done(): boolean {
    return this.#at >= this.#text.length;
  }

  /** Steps over `char` if it is next. */
  take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#step(1);
    return true;
  }

  /** Blanks, newlines and comments. */
  skipBlank(): void {
    for (;;) {
      if (this.#match(/[\s]+/y)) continue;
      if (!this.#match(/#[^\n]*/y)) return;
    }
  }

  skipLine(): void {
    this.#match(/[^\n]*/y);
  }

  /** A dotted key, up to what follows it. */
  keys(): string[] {
    const keys: string[] = [];
    do {
      this.#match(/[ \t]+/y);
      const basic = this.#match(/"(?:[^"\\\n]|\\.)*"/y);
      const literal = basic === undefined ? this.#match(/'[^'\n]*'/y) : undefined;
      const plain = basic ?? literal ?? this.#match(/[A-Za-z0-9_-]+/y) ?? '';
      keys.push(basic === undefined ? plain.replaceAll("'", '') : unescapeBasic(basic));
      this.#match(/[ \t]+/y);
    } while (this.take('.'));
    return keys;
  }

  /** `= value`, over several lines when strings or brackets are. */
  skipValue(): void {
    let depth = 0;
    while (!this.done) {
      const token = this.#match(
        /"""(?:[^\\]|\\.)*?"{3,5}|'''.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[^"'#\n[\]{}]+|./sy,
      );
      if (token === '[' || token === '{') depth++;
      if (token === ']' || token === '}') depth--;
      if (token === '\n' && depth <= 0) return;
    }
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined || found === '') return undefined;
    this.#step(found.length);
    return found;
  }

  #step(length: number): void {
    for (let at = this.#at; at < this.#at + length; at++) if (this.#text[at] === '\n') this.line++;
    this.#at += length;
  }
}

/** TOML's escapes in a key are JSON's and `\U`, `\e`, `\x`; the rare latter are left as they stand. */
function unescapeBasic(quoted: string): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return quoted.slice(1, -1);
  }
}
