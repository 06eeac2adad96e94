import {
  choice,
  duration,
  flag,
  list,
  optional,
  percentage,
  type Share,
  share,
  table,
  text,
  withDefault,
} from './fields.ts';
import { filterProblem } from './gc-filter.ts';

const ruleShape = {
  filters: withDefault(
    list(
      'Records it may take: those that match any of these [filters](https://github.com/containerd/containerd/blob/main/pkg/filters/parser.go). The fields are `type`, `id`, `description`, `mutable`, `immutable`, `shared` and `private`; the types are `regular` (layers), `source.local`, `source.git.checkout`, `exec.cachemount`, `frontend` and `internal`. Every record when left out.',
      filter(),
    ),
    [],
    '[]',
  ),
  all: withDefault(flag('Whether it may take `internal`, `frontend` and shared records too.'), false, 'false'),
  age: optional(duration('It takes only what has not been used for this long.', '48h', { min: 1000 })),
  max: optional(share('It takes while the whole cache uses more than this.')),
  'min-free': optional(share('It takes while less than this is free on the volume.')),
  keep: optional(share('It never brings the whole cache below this.', true)),
};

function filter() {
  const takes = 'a filter such as "type==exec.cachemount"';
  return text('', takes).check((context) => {
    const problem = filterProblem(context.value);
    if (problem)
      context.issues.push({ code: 'custom', message: `${problem}; expected ${takes}`, input: context.value });
  });
}

const rule = table(
  'Rules of your own, in order, before those of the preset (with `preset = "off"`: instead).',
  ruleShape,
  function* (given) {
    if (given.age === undefined && given.max === undefined && given['min-free'] === undefined)
      yield ['max', 'missing; without max, min-free or age the rule would empty the cache after every build'];
    if (exceeds(given.keep, given.max)) yield ['keep', 'is more than max'];
  },
);

const watermarks = table(
  'How full the volume of the cache may get, builds that run included. Looked at several times a second while builds run. Above a soft mark the rules are applied at once, as if `min-free` began there; what a running build uses is never taken. Above a hard mark new builds wait until there is room.',
  {
    soft: withDefault(share('Space in use.'), { percent: 85 }, '"85%"'),
    hard: withDefault(share('Space in use.'), { percent: 95 }, '"95%"'),
    'inodes-soft': withDefault(percentage('Inodes (files and folders) in use.'), 85, '"85%"'),
    'inodes-hard': withDefault(percentage('Inodes in use.'), 95, '"95%"'),
    reserve: withDefault(
      share(
        'Space that is held back in a file, and given to BuildKit’s own databases when all else is full. At most 256 MB.',
        true,
      ),
      { percent: 1 },
      '"1%"',
    ),
  },
  function* (given) {
    if (exceeds(given.soft, given.hard)) yield ['soft', 'is more than hard'];
    if (given['inodes-soft'] > given['inodes-hard']) yield ['inodes-soft', 'is more than inodes-hard'];
  },
);

/** The `[gc]` table. */
export const gcTable = table(
  'What is removed from the cache, and when. Runs at start and after each build.',
  {
    preset: withDefault(
      choice(
        '`cache-mounts-last`: contexts first, then layers, least used first; cache mounts only when nothing else is left to take, where the cache itself fills the volume by more than half of what `max` leaves, or above the hard watermark where taking them helps. `buildkit`: BuildKit’s own policy, which takes cache mounts first. `off`: nothing is removed (but by rules).',
        ['cache-mounts-last', 'buildkit', 'off'],
      ),
      'cache-mounts-last',
      '"cache-mounts-last"',
    ),
    max: optional(
      share(
        'The preset removes while the cache uses more than this. Default "80%" of the volume; with `buildkit` at most 100 GB.',
      ),
    ),
    'min-free': optional(
      share(
        'The preset removes while less than this is free on the volume; `cache-mounts-last` no cache mounts. Default "20%".',
        true,
      ),
    ),
    keep: optional(
      share(
        'The preset never brings the cache below this. Default "10%" of the volume; with `buildkit` at most 10 GB.',
        true,
      ),
    ),
    watermarks,
    rule: withDefault(list('Rules of your own.', rule), [], '[]'),
  },
  function* (given) {
    if (exceeds(given.keep, given.max)) yield ['keep', 'is more than max'];
    if (given.preset !== 'off') return;
    for (const key of ['max', 'min-free', 'keep'] as const)
      if (given[key]) yield [key, 'has no effect with preset = "off"; write a [[gc.rule]] or choose another preset'];
  },
);

/** Whether both are given in the same unit and the first is more. */
function exceeds(less: Share | undefined, more: Share | undefined): boolean {
  if (!less || !more) return false;
  if ('bytes' in less && 'bytes' in more) return less.bytes > more.bytes;
  return 'percent' in less && 'percent' in more && less.percent > more.percent;
}
