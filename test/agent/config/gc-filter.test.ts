import { expect, test } from 'vitest';
import { filterProblem } from '../../../agent/config/gc-filter.ts';

test.each([
  'type==exec.cachemount',
  'type!=regular,mutable',
  'type~=^source.',
  'id==2qmd7mqew1ayr8exuva4fqk72',
  'id',
  'description=="mount / from exec, all of it"',
  'description~="apt-get (update|install)"',
  'shared,private,immutable',
])('takes %s', (filter) => {
  expect(filterProblem(filter)).toBeUndefined();
});

test.each([
  ['', 'is empty'],
  ['type=exec.cachemount', 'is not a selector'],
  ['type==', 'is not a selector'],
  ['type==regular,', 'is not a selector'],
  [',type==regular', 'is not a selector'],
  ['type==regular,,mutable', 'is not a selector'],
  ['type==a b', 'is not a selector'],
  ['type == regular', 'is not a selector'],
  ['description=="open', 'is not a selector'],
  ['description=="a"b', 'is not a selector'],
  ['description==/x/', 'is not a selector'],
  ['type==exec.cachemont', 'did you mean "exec.cachemount"?'],
  ['typ==regular', 'did you mean "type"?'],
  ['inuse', 'is not a field GC knows; known: id, description, type'],
  ['parents==x', 'is not a field GC knows'],
  ['mutable==true', 'takes no value'],
  ['description~="("', 'is not a regular expression'],
  ['description~="(?=x)"', "Go's regular expressions lack"],
])('refuses %j', (filter, problem) => {
  expect(filterProblem(filter)).toContain(problem);
});
