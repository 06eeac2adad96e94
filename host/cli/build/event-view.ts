import { BuildvisorError } from '../../../common/errors.ts';
import { fromWireError } from '../../../common/grpc-errors.ts';
import type { Vertex } from '../../../common/status.ts';
import { decodeStatus } from '../../../common/status-decode.ts';
import type { BuildEvent } from '../../client/types.ts';
import type { Display } from './display.ts';
import { QueueStep } from './queue-step.ts';
import { formatSource } from './source-excerpt.ts';

/** Shows the events of our API on a display. */
export class EventView {
  readonly #display: Display;
  readonly #queue: QueueStep;

  constructor(display: Display) {
    this.#display = display;
    this.#queue = new QueueStep(display);
  }

  /** Shows one event; those that have nothing to show are fine. */
  show({ status, truncated, queued, result }: BuildEvent): void {
    if (queued) this.#queue.show(queued);
    if (status || result) this.#queue.end();
    if (status) this.#display.update(decodeStatus(status));
    if (truncated) this.#display.update({ vertexes: [truncatedStep()] }, 'local');
  }
}

/**
 * The digest of a build that passed; empty without an image.
 * @throws BuildvisorError what it failed of, the Dockerfile's lines as the fact `excerpt`
 */
export function digestOf(result: NonNullable<BuildEvent['result']>): string {
  const failed = result.error;
  if (!failed) return result.digest;
  const { error, source, step } = failed;
  const excerpt = source ? { excerpt: formatSource(source) } : {};
  if (error) throw fromWireError({ ...error, facts: { ...error.facts, ...excerpt } });
  throw new BuildvisorError('BUILD_FAILED', step ? `${step} failed` : 'The build failed', { facts: excerpt });
}

/** Says in the progress, whatever its mode, that more of it is not coming. */
function truncatedStep(): Vertex {
  const now = new Date().toISOString();
  const name = "[machine] the build's journal is full: later progress is left out";
  return { digest: 'buildvisor:truncated', name, started: now, completed: now };
}
