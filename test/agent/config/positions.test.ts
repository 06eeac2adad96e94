import fc from 'fast-check';
import { parse, stringify } from 'smol-toml';
import { expect, test } from 'vitest';
import { locateKeys } from '../../../agent/config/positions.ts';

const toml = `# top
a = 1
"b.c" = """
[not.a.header]
x = 1
""" # after
'd e' = ['x', # [no]
  "y]",
  { f = 1 },
]
g.h = { i = 1, j = [2] }

[k."l\\u00e9".m] # header
n = '''
o = 1'''
  p = 2

[[q]]
r = 1
[[q]]
  r = 1
  [q.s]
  t = 1
  [[q.u]]
  v = 1
  [[q.u]]
  v = 1
`;

test.each([
  [['a'], 2],
  [['b.c'], 3],
  [['d e'], 7],
  [['d e', 2, 'f'], 7],
  [['g'], 11],
  [['g', 'h'], 11],
  [['g', 'h', 'i'], 11],
  [['k'], 13],
  [['k', 'lé', 'm'], 13],
  [['k', 'lé', 'm', 'n'], 14],
  [['k', 'lé', 'm', 'p'], 16],
  [['q'], 18],
  [['q', 0, 'r'], 19],
  [['q', 1], 20],
  [['q', 1, 'r'], 21],
  [['q', 1, 's', 't'], 23],
  [['q', 1, 'u', 0, 'v'], 25],
  [['q', 1, 'u', 1, 'v'], 27],
  [['q', 1, 'u', 1, 'nothing'], 26],
  [['nothing'], undefined],
  [[], undefined],
] as const)('%j is on line %s', (path, line) => {
  expect(parse(toml)).toBeTypeOf('object');
  expect(locateKeys(toml)(path)).toBe(line);
});

test('finds every key of what a TOML library writes', () => {
  const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.string(), { maxLength: 3 }));
  const { tree } = fc.letrec((tie) => ({
    tree: fc.dictionary(
      fc.oneof(fc.stringMatching(/^[a-z."'# =[\]]{1,5}$/), fc.stringMatching(/^[a-z]{1,3}$/)),
      fc.oneof({ maxDepth: 3 }, value, tie('tree'), fc.array(tie('tree'), { minLength: 1, maxLength: 2 })),
      { maxKeys: 4 },
    ),
  }));
  fc.assert(
    fc.property(tree, (document) => {
      const text = stringify(document);
      const lines = text.split('\n');
      const locate = locateKeys(text);
      for (const [path, leaf] of leaves(document)) {
        const line = lines[(locate(path) ?? 0) - 1] ?? '';
        expect(parse(`${line.replace(/^\[.*\]$/, '')}\n`)).toMatchObject({ [String(path.at(-1))]: leaf });
      }
    }),
    { numRuns: 500 },
  );
});

/** Paths and values of what is neither a table nor a list of tables. */
function* leaves(node: unknown, path: (string | number)[] = []): Generator<[(string | number)[], unknown]> {
  const table = typeof node === 'object' && node !== null;
  if (!table || (Array.isArray(node) && typeof node[0] !== 'object')) yield [path, node];
  else
    for (const [key, value] of Object.entries(node))
      yield* leaves(value, [...path, Array.isArray(node) ? Number(key) : key]);
}
