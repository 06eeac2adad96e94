/**
 * Reads a Dockerfile as far as its shape goes: which instructions there are and in which lines. The rules are those of BuildKit's
 * frontend/dockerfile/parser (parser.go, directives.go). Not read: variables, quotes, and what only the shell understands.
 */

/** An instruction. */
export interface Instruction {
  /** In lower case: `run`. */
  name: string;
  /** What follows the name, its lines joined; the text of heredocs is left out. */
  rest: string;
  /** Its first line, from 1, and the last, heredocs included. */
  line: number;
  lastLine: number;
}

/** What a Dockerfile consists of. */
export interface DockerfileShape {
  /** The frontend that `# syntax=` names. */
  syntax: string | undefined;
  instructions: Instruction[];
}

const directive = /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$/;
const directiveNames = new Set(['syntax', 'escape', 'check']);
/** With an escape token of `\`, and of a backtick. The token at the end goes on, unless one stands before it. */
const continuations = { '\\': /(?:[^\\]|^)\\[ \t]*$/, '`': /(?:[^`]|^)`[ \t]*$/ } as const;
const withHeredocs = new Set(['run', 'copy', 'add']);
/** `<<EOF`, `<<-EOF`, `3<<"EOF"` as words of their own (parser.go, reHeredoc). */
const heredoc = /(?:^|\s)\d*<<(-?)\s*(?:"([^"<\s]+)"|'([^'<\s]+)'|([^\s<"']+))(?=\s|$)/g;

/** Reads the shape of a Dockerfile. Never throws: what BuildKit will refuse is read somehow. */
export function readInstructions(text: string): DockerfileShape {
  const lines = text.replace(/^\uFEFF/, '').split('\n');
  const shape: DockerfileShape = { syntax: undefined, instructions: [] };
  let token: keyof typeof continuations = '\\';
  let inDirectives = true;
  for (let at = 0; at < lines.length; at++) {
    const first = lineAt(lines, at).trimStart();
    const [, key = '', value = ''] = (inDirectives && directive.exec(first)) || [];
    inDirectives &&= directiveNames.has(key.toLowerCase());
    if (inDirectives) {
      if (key.toLowerCase() === 'syntax') shape.syntax ??= value;
      if (key.toLowerCase() === 'escape' && value === '`') token = '`';
      continue;
    }
    if (first === '' || first.startsWith('#')) continue;
    const start = at;
    const parts = [first];
    while (continuations[token].test(parts.at(-1) ?? '') && at + 1 < lines.length) {
      const next = lineAt(lines, ++at);
      // Comments and empty lines in the middle of an instruction do not end it.
      if (next.trimStart() !== '' && !next.trimStart().startsWith('#')) parts.push(next);
    }
    const [, name = '', rest = ''] = /^(\S+)\s*(.*)$/s.exec(join(parts, token)) ?? [];
    const instruction = { name: name.toLowerCase(), rest, line: start + 1, lastLine: at + 1 };
    if (withHeredocs.has(instruction.name) && rest.includes('<<')) {
      at = skipHeredocs(lines, at, rest);
      instruction.lastLine = at + 1;
    }
    shape.instructions.push(instruction);
  }
  return shape;
}

function lineAt(lines: string[], at: number): string {
  const line = lines[at] ?? '';
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}

function join(parts: string[], token: keyof typeof continuations): string {
  const last = token === '\\' ? /\\[ \t]*$/ : /`[ \t]*$/;
  return parts.map((part) => (continuations[token].test(part) ? part.replace(last, '') : part)).join('');
}

/** Gives the last line of the heredocs that a line opens. One that is not closed is none. */
function skipHeredocs(lines: string[], from: number, rest: string): number {
  let at = from;
  for (const [, chomp, double, single, bare] of rest.matchAll(heredoc)) {
    const name = double ?? single ?? bare;
    let end = at + 1;
    const closes = (line: string): boolean => (chomp === '-' ? line.replace(/^\t+/, '') : line) === name;
    while (end < lines.length && !closes(lineAt(lines, end))) end++;
    if (end < lines.length) at = end;
  }
  return at;
}
