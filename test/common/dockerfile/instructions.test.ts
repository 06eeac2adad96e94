import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readInstructions } from '../../../common/dockerfile/instructions.ts';

/** Names, and lines where an instruction has several. */
function shapeOf(text: string): string[] {
  return readInstructions(text).instructions.map(({ name, line, lastLine }) =>
    line === lastLine ? `${line} ${name}` : `${line}-${lastLine} ${name}`,
  );
}

test.each([
  [
    'plain lines, any case, blank ones and comments',
    'FROM a\n\n# RUN no\n  run x\n\tCOPY a b',
    ['1 from', '4 run', '5 copy'],
  ],
  ['line ends of Windows', 'FROM a\r\nRUN a \\\r\n b\r\nRUN c\r\n', ['1 from', '2-3 run', '4 run']],
  ['a byte order mark', '\uFEFFFROM a', ['1 from']],
  ['a continuation with comments and blanks in it', 'RUN a \\\n# no\n\n  b \\  \n c\nRUN d', ['1-5 run', '6 run']],
  ['a token that is escaped goes on with nothing', 'RUN a \\\\\nRUN b', ['1 run', '2 run']],
  ['another escape token', '# escape=`\nRUN a `\n b\nRUN c \\\nRUN d', ['2-3 run', '4 run', '5 run']],
  ['an escape directive that comes too late', '# a comment\n# escape=`\nRUN a \\\nRUN b', ['3-4 run']],
  ['a heredoc', 'RUN <<EOF\nFROM no\n EOF\nEOF\nRUN b', ['1-4 run', '5 run']],
  ['two heredocs, one with tabs', 'COPY <<a <<-"b" /to/\nRUN 1\na\nRUN 2\n\tb\nRUN c', ['1-5 copy', '6 run']],
  ['a heredoc behind a continuation', 'RUN x \\\n <<EOF cat\nRUN no\nEOF\nRUN b', ['1-4 run', '5 run']],
  ['a shift that is no heredoc', 'RUN echo $(( 1 <<3 ))\nRUN b', ['1 run', '2 run']],
  ['no heredoc where none may be', 'ENV a=<<EOF\nRUN b', ['1 env', '2 run']],
  ['a last line that wants to go on', 'FROM a\nRUN x \\', ['1 from', '2 run']],
  ['nothing', '', []],
])('%s', (_, text, shape) => {
  expect(shapeOf(text)).toEqual(shape);
});

test('gives the syntax, and an instruction without its line ends', () => {
  const { syntax, instructions } = readInstructions('# syntax=docker/dockerfile:1\nFROM --platform=x \\\n  a AS b\n');
  expect(syntax).toBe('docker/dockerfile:1');
  expect(instructions).toEqual([{ name: 'from', rest: '--platform=x   a AS b', line: 2, lastLine: 3 }]);
});

test('whatever the file, the instructions are in order and none is lost', () => {
  const word = fc.constantFrom(
    'FROM a',
    'RUN b',
    '# escape=`',
    '<<E',
    'E',
    '\\',
    ' ',
    '\t',
    '\n',
    'COPY <<E',
    '`',
    '#',
    '\r\n',
    'ü',
  );
  fc.assert(
    fc.property(
      fc.array(word).map((words) => words.join('')),
      (text) => {
        let last = 0;
        for (const { line, lastLine } of readInstructions(text).instructions) {
          expect(line).toBeGreaterThan(last);
          expect(lastLine).toBeGreaterThanOrEqual(line);
          last = lastLine;
        }
        expect(last).toBeLessThanOrEqual(text.split('\n').length);
      },
    ),
  );
});
