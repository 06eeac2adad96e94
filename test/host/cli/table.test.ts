import { expect, test } from 'vitest';
import { formatFields, formatTable } from '../../../host/cli/table.ts';

test('columns are aligned, numbers to the right, wide characters counted', () => {
  const columns = [{ title: 'NAME' }, { title: 'SIZE', right: true }, { title: 'NOTE' }];
  const lines = formatTable(columns, [
    ['a', '1 B', ''],
    ['日本', '10 kB', 'x'],
  ]);
  expect(lines).toEqual(['NAME    SIZE   NOTE', 'a        1 B', '日本   10 kB   x']);
});

test('lines are cut to a width', () => {
  expect(formatTable([{ title: 'NAME' }], [['abcdefghij']], 5)).toEqual(['NAME', 'abcd…']);
});

test('fields without a value are left out', () => {
  expect(
    formatFields([
      ['a', '1'],
      ['long', '2'],
      ['none', undefined],
    ]),
  ).toEqual(['a      1', 'long   2']);
});
