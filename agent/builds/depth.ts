import { layersBelow, waysOut } from '../../common/dockerfile/depth.ts';
import { layerLimit } from '../../common/dockerfile/limit.ts';
import { BuildvisorError } from '../../common/errors.ts';

/** Fewest layers whose mount can fail: containerd passes them in 4096 bytes (its mount_linux.go), at most 11 each. */
const fewestTooMany = 350;

/** The layers that a step stands on, those of a base image left out. */
export interface StepDepth {
  stage: string;
  below: number;
}

/** BuildKit's `errdefs.Source` as JSON, with what the gate counted where it made the file short. */
interface SourceJson {
  info?: { data?: unknown };
  ranges?: { start?: { line?: number } }[];
  layersBelow?: { stage?: unknown; below?: unknown };
}

/** How deep the step of an `errdefs.Source` is; undefined when that is no line of a stage. */
export function readDepth(json: unknown): StepDepth | undefined {
  const { info, ranges, layersBelow: counted } = (json ?? {}) as SourceJson;
  if (typeof counted?.stage === 'string' && typeof counted.below === 'number')
    return { stage: counted.stage, below: counted.below };
  const line = Array.isArray(ranges) ? ranges[0]?.start?.line : undefined;
  if (line === undefined || typeof info?.data !== 'string') return undefined;
  return layersBelow(Buffer.from(info.data, 'base64').toString(), line);
}

/**
 * What a step that could not even be begun may have failed of: it stands on more layers than can be mounted.
 * @param failure what BuildKit said
 * @returns the same with a hint where that is possible; `DEPTH_LIMIT` where it is certain
 */
export function explainDepth(failure: BuildvisorError, depth: StepDepth | undefined): BuildvisorError {
  if (depth === undefined || depth.below < fewestTooMany) return failure;
  const { stage, below } = depth;
  const facts = { ...failure.facts, stage, depth: below, limit: layerLimit };
  const of = /^\d+$/.test(stage) ? `number ${stage}` : stage;
  if (below > layerLimit)
    return new BuildvisorError(
      'DEPTH_LIMIT',
      `A step of the stage ${of} stands on ${below} layers; overlayfs mounts at most ${layerLimit}`,
      { facts, hint: waysOut, cause: failure },
    );
  return new BuildvisorError(failure.code, failure.message, {
    facts,
    hint: `If it could not be mounted: the step stands on ${below} layers and those of its base image. At most ${layerLimit} can be mounted, in an old cache fewer. ${waysOut}`,
    cause: failure,
  });
}
