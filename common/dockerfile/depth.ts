/**
 * How many layers lie one on another in the stages of a Dockerfile, as BuildKit v0.33 makes them on overlayfs: RUN, COPY, ADD and WORKDIR put
 * one layer on what is there. `--link` merges instead (snapshot/merge.go, Merge): all that came since the stage's first `--link` becomes
 * one layer on what was there before that.
 */
import { posix } from 'node:path';
import { BuildvisorError } from '../errors.ts';
import { type Instruction, readInstructions } from './instructions.ts';
import { layerLimit, leastDeepBytes } from './limit.ts';

/** Layers of a stage, those of an image it begins with left out: nothing here knows them. */
interface Chain {
  /** Whether it begins with `scratch`, and not with an image's layers. */
  fromScratch: boolean;
  depth: number;
  /** What the first `--link` was put on. */
  linkedOn: number | undefined;
}

/** The stages of a Dockerfile as far as they were read, and the place of each name, of which the last counts. */
interface Stages {
  list: Stage[];
  byName: Map<string, number>;
}

/** A stage of a Dockerfile. */
interface Stage {
  /** Its name, or its number from 0. */
  name: string;
  /** The stages whose files it needs, by their place. */
  needs: number[];
  chain: Chain;
  /** Line and depth of the instruction that passed the limit first. */
  passedAt: number | undefined;
  /** Its instructions with the layers each of them stands on. */
  steps: { instruction: Instruction; below: number }[];
}

/** What would pass the limit. */
export interface TooDeep {
  /** The stage's name, or its number from 0. */
  stage: string;
  /** Layers of the whole stage, at least. */
  depth: number;
  /** The line whose layer passes the limit. */
  line: number;
}

/**
 * The first stage of those a target needs that passes the limit. Undefined too where that cannot be told: another frontend's syntax, a
 * target that is not there; and bases that are named by a variable count as none.
 * @param target a stage's name or number; the last stage when it is left out
 */
export function findTooDeep(dockerfile: string, target?: string): TooDeep | undefined {
  if (dockerfile.length < leastDeepBytes) return undefined;
  const stages = readStages(dockerfile);
  const wanted = target ? stageNumber(stages, target) : stages.list.length - 1;
  for (const number of needed(stages, wanted)) {
    const stage = stages.list[number];
    if (stage?.passedAt !== undefined) return { stage: stage.name, depth: stage.chain.depth, line: stage.passedAt };
  }
  return undefined;
}

/** How many layers the instruction in a line stands on, those of an image left out; undefined when there is none. */
export function layersBelow(dockerfile: string, line: number): { stage: string; below: number } | undefined {
  for (const { name, steps } of readStages(dockerfile).list) {
    const step = steps.find(({ instruction }) => instruction.line <= line && line <= instruction.lastLine);
    if (step) return { stage: name, below: step.below };
  }
  return undefined;
}

/** The ways out of a stage that is too deep. */
export const waysOut =
  'Put several commands into one RUN (as a heredoc they may stay lines of their own), several files into one COPY, ' +
  'or copy with COPY --link, whose layers do not stack.';

/** The error of a stage that is too deep. */
export function tooDeepError({ stage, depth, line }: TooDeep, file: string): BuildvisorError {
  const message = `The stage ${/^\d+$/.test(stage) ? `number ${stage}` : stage} stacks ${depth} layers; overlayfs mounts at most ${layerLimit}`;
  return new BuildvisorError('DEPTH_LIMIT', message, {
    hint: `${file}:${line} is the first too many. ${waysOut}`,
    facts: { stage, depth, limit: layerLimit, file, line },
  });
}

function readStages(dockerfile: string): Stages {
  const stages: Stages = { list: [], byName: new Map() };
  const { syntax, instructions } = readInstructions(dockerfile);
  if (syntax !== undefined && !/^(docker\.io\/)?docker\/dockerfile(-upstream)?([:@]|$)/.test(syntax)) return stages;
  for (const instruction of instructions) {
    const stage = stages.list.at(-1);
    if (instruction.name === 'from') beginStage(stages, instruction);
    else if (stage) addInstruction(stages, stage, instruction);
  }
  return stages;
}

function beginStage(stages: Stages, { rest }: Instruction): void {
  const [base = '', as, name] = rest.split(/\s+/).filter((word) => !word.startsWith('--'));
  const on = stageNumber(stages, base);
  const chain = on === undefined ? undefined : stages.list[on]?.chain;
  const named = as?.toLowerCase() === 'as' ? name : undefined;
  const place = stages.list.push({
    name: named ?? String(stages.list.length),
    needs: on === undefined ? [] : [on],
    chain: chain ? { ...chain } : { depth: 0, linkedOn: undefined, fromScratch: base.toLowerCase() === 'scratch' },
    passedAt: undefined,
    steps: [],
  });
  if (named) stages.byName.set(named.toLowerCase(), place - 1);
}

function addInstruction(stages: Stages, stage: Stage, instruction: Instruction): void {
  const { name, rest } = instruction;
  const flags = /^(?:--\S+\s+)*/.exec(rest)?.[0] ?? '';
  for (const [, from = ''] of flags.matchAll(/(?:--from=|[=,]from=)([^\s,]+)/g)) {
    const number = stageNumber(stages, from);
    if (number !== undefined && number < stages.list.length - 1) stage.needs.push(number);
  }
  if (!makesLayer(name, rest)) return;
  stage.steps.push({ instruction, below: stage.chain.depth });
  stage.chain = isLinked(name, flags) ? link(stage.chain) : { ...stage.chain, depth: stage.chain.depth + 1 };
  if (stage.chain.depth > layerLimit) stage.passedAt ??= instruction.line;
}

function makesLayer(name: string, rest: string): boolean {
  if (name === 'run' || name === 'copy' || name === 'add') return true;
  // BuildKit makes no layer for the root; what a variable stands for is not known here.
  return name === 'workdir' && !rest.includes('$') && posix.join('/', rest.trim()) !== '/';
}

function isLinked(name: string, flags: string): boolean {
  return name !== 'run' && /--link(=true|=1)?\s/.test(flags);
}

/** On an empty stage there is nothing to merge with. */
function link(chain: Chain): Chain {
  if (chain.depth === 0 && chain.fromScratch) return { ...chain, depth: 1 };
  const linkedOn = chain.linkedOn ?? chain.depth;
  return { ...chain, depth: linkedOn + 1, linkedOn };
}

/** The place of a stage by its name or its number. */
function stageNumber({ list, byName }: Stages, name: string): number | undefined {
  return (
    byName.get(name.toLowerCase()) ?? (/^\d+$/.test(name) && Number(name) < list.length ? Number(name) : undefined)
  );
}

/** A stage and all it needs, the first ones first. */
function needed(stages: Stages, from: number | undefined): number[] {
  const found = new Set<number>();
  const open = from === undefined ? [] : [from];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (found.has(next)) continue;
    found.add(next);
    open.push(...(stages.list[next]?.needs ?? []));
  }
  return [...found].sort((a, b) => a - b);
}
