import { chmod } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { runningSteps } from '../../agent/buildkit/running-steps.ts';
import type { Admission } from '../../agent/gate/admission/disk.ts';
import type { LargeBlocks } from '../../agent/gate/errors/index.ts';
import { Gate } from '../../agent/gate/gate.ts';
import type { GateRecorder, QueuePlace, SolveOutcome, SolveQueued, SolveStart } from '../../agent/gate/recorder.ts';
import { openLog } from '../../agent/log.ts';
import type { SolveStatus } from '../../common/status.ts';
import { decodeStatus } from '../../common/status-decode.ts';
import { StepCounter } from '../../common/steps.ts';

/** A recorder that keeps everything. */
export class MemoryRecorder implements GateRecorder {
  readonly queued: SolveQueued[] = [];
  /** Each place that a waiting solve was told. */
  readonly places = new Map<string, QueuePlace[]>();
  readonly starts: SolveStart[] = [];
  readonly statuses = new Map<string, SolveStatus[]>();
  readonly outcomes = new Map<string, SolveOutcome>();
  /** What came out of order: a status before the start or after the end, a second end. */
  readonly faults: string[] = [];
  open = 0;

  running(ref: string): string[] {
    const counter = new StepCounter();
    for (const status of this.statuses.get(ref) ?? []) counter.add(status);
    return counter.running();
  }

  solveQueued(solve: SolveQueued): void {
    if (this.statuses.has(solve.ref)) this.faults.push(`queued after start of ${solve.ref}`);
    this.queued.push(solve);
    this.places.set(solve.ref, []);
  }

  solveMoved(ref: string, place: QueuePlace): void {
    if (this.statuses.has(ref) || this.outcomes.has(ref)) this.faults.push(`moved after start or end of ${ref}`);
    const places = this.places.get(ref);
    if (places) places.push(place);
    else this.faults.push(`moved before queued: ${ref}`);
  }

  solveStarted(solve: SolveStart): void {
    if (this.outcomes.has(solve.ref)) this.faults.push(`start after end of ${solve.ref}`);
    this.starts.push(solve);
    this.statuses.set(solve.ref, []);
  }

  status(ref: string, message: Buffer): void {
    if (this.outcomes.has(ref)) this.faults.push(`status after end of ${ref}`);
    const known = this.statuses.get(ref);
    if (known) known.push(decodeStatus(message));
    else this.faults.push(`status before start of ${ref}`);
  }

  solveEnded(ref: string, outcome: SolveOutcome): void {
    if (this.outcomes.has(ref)) this.faults.push(`second end of ${ref}`);
    this.outcomes.set(ref, outcome);
  }

  activity(delta: 1 | -1): void {
    this.open += delta;
  }
}

/** A gate on a Unix socket in `dir`. */
export interface TestGate {
  gate: Gate;
  recorder: MemoryRecorder;
  socket: string;
  stop(): Promise<void>;
}

/** How a gate of a test is. */
export interface TestGateOptions {
  /** Of which build every client is. */
  build?: string;
  /** Most bytes of one write to a client. */
  maxWrite?: number;
  maxBuilds?: number;
  maxConnections?: number;
  admission?: Admission;
  /** What reads long header blocks. */
  blocks?: LargeBlocks;
  /** Root of the buildkitd whose steps are looked at. */
  root?: string;
}

/** Opens a gate in front of a buildkitd's socket. */
export async function openGate(
  dir: string,
  upstream: string,
  { build, maxWrite, maxBuilds = 100, root, ...rest }: TestGateOptions = {},
): Promise<TestGate> {
  const recorder = new MemoryRecorder();
  const gate = new Gate({
    upstream,
    recorder,
    log: openLog('silent'),
    maxBuilds,
    ...(root && { steps: () => runningSteps(root) }),
    ...rest,
  });
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    gate.accept(socket, build === undefined ? {} : { build }, maxWrite);
  });
  const path = join(dir, `gate-${Math.random().toString(36).slice(2)}.sock`);
  await new Promise<void>((resolve) => server.listen({ path, backlog: 4_096 }, resolve));
  await chmod(path, 0o600);
  const stop = async (): Promise<void> => {
    await gate.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  return { gate, recorder, socket: path, stop };
}
