import { cpus, release } from 'node:os';
import type { BuildvisorError } from '../../common/errors.ts';
import type { InfoRequest__Output } from '../../common/generated/types/buildvisor/v1/InfoRequest.ts';
import type { InfoResponse } from '../../common/generated/types/buildvisor/v1/InfoResponse.ts';
import type { MachineHandlers } from '../../common/generated/types/buildvisor/v1/Machine.ts';
import type { ShutdownRequest__Output } from '../../common/generated/types/buildvisor/v1/ShutdownRequest.ts';
import type { ShutdownResponse } from '../../common/generated/types/buildvisor/v1/ShutdownResponse.ts';
import type { State } from '../../common/generated/types/buildvisor/v1/State.ts';
import type { Volume as WireVolume } from '../../common/generated/types/buildvisor/v1/Volume.ts';
import type { WatchStateRequest__Output } from '../../common/generated/types/buildvisor/v1/WatchStateRequest.ts';
import { toWireError } from '../../common/grpc-errors.ts';
import { protocolVersion } from '../../common/protocol.ts';
import { buildkitVersion, buildvisorVersion } from '../../common/versions.ts';
import type { RepairReport } from '../buildkit/verify-root.ts';
import type { WorkerInfo } from '../buildkit/worker.ts';
import type { PressureFacts } from '../cache/pressure.ts';
import type { GcPolicy } from '../config/index.ts';
import type { SlotCounts } from '../gate/desk.ts';
import { listAsides } from '../volumes/set-aside.ts';
import { usage, type Volume } from '../volumes/volume.ts';
import type { Handlers } from './calls.ts';
import type { BootPhase, MachineState, StateBoard } from './state.ts';

/** Something this machine can do, or why it cannot. */
export interface Capability {
  name: string;
  available: boolean;
  reason: string;
}

/** What is known of the machine so far; a machine that failed early knows little. */
export interface MachineFacts {
  scope: string;
  idleTimeoutMs: number;
  volumes: Volume[];
  repair?: RepairReport | undefined;
  worker: WorkerInfo | undefined;
  gcPolicies: GcPolicy[];
  capabilities: Capability[];
  bootPhases: BootPhase[];
  buildkitdRestarts: number;
  buildkitdLastFailure: BuildvisorError | undefined;
  /** 0 where nothing bounds it. */
  buildsMemoryBytes: number;
  buildsRunning: number;
  /** How full the cache's volume is, once it is watched. */
  pressure: PressureFacts | undefined;
  /** How many builds may run, do, and wait, once there is a gate. */
  slots: SlotCounts | undefined;
}

/** What the service needs. */
export interface MachineService {
  state: StateBoard;
  facts: () => MachineFacts;
  /** Begins an orderly stop and returns at once. */
  shutdown: (reason: string) => void;
}

/** The handlers of `buildvisor.v1.Machine`. */
export function machineHandlers(handlers: Handlers, { state, facts, shutdown }: MachineService): MachineHandlers {
  return {
    Info: handlers.unary<InfoRequest__Output, InfoResponse>(async () => describe(facts(), state.now)),
    WatchState: handlers.stream<WatchStateRequest__Output, State>(async (_request, send, { signal }) => {
      for await (const now of state.watch(signal)) await send(toWireState(now, facts()));
    }),
    Shutdown: handlers.unary<ShutdownRequest__Output, ShutdownResponse>(({ reason }) => {
      shutdown(reason === '' ? 'asked by a client' : reason.slice(0, 200));
      return {};
    }),
  };
}

async function describe(facts: MachineFacts, state: MachineState): Promise<InfoResponse> {
  const { worker } = facts;
  return {
    protocol: protocolVersion,
    scope: facts.scope,
    state: toWireState(state, facts),
    versions: {
      buildvisor: buildvisorVersion,
      buildkit: worker?.version ?? buildkitVersion,
      node: process.version,
      kernel: release(),
    },
    volumes: await Promise.all(facts.volumes.map(describeVolume)),
    repair: facts.repair ?? null,
    worker: worker === undefined ? null : { id: worker.id, platforms: worker.platforms, labels: worker.labels },
    gcPolicies: facts.gcPolicies,
    capabilities: facts.capabilities,
    bootPhases: facts.bootPhases,
    ...(await describeMemory()),
    cpus: cpus().length,
    idleTimeoutMs: facts.idleTimeoutMs,
    pressure: facts.pressure ?? null,
    slots: facts.slots ?? null,
    buildkitdRestarts: facts.buildkitdRestarts,
    buildkitdLastFailure: facts.buildkitdLastFailure === undefined ? null : toWireError(facts.buildkitdLastFailure),
    buildsMemoryBytes: facts.buildsMemoryBytes,
  };
}

/** The library is loaded when somebody asks: a boot does not need it. */
async function describeMemory(): Promise<Pick<InfoResponse, 'memoryBytes' | 'memoryAvailableBytes'>> {
  const { default: system } = await import('systeminformation');
  const { total, available } = await system.mem();
  return { memoryBytes: total, memoryAvailableBytes: available };
}

async function describeVolume(volume: Volume): Promise<WireVolume> {
  const { name, mode, device, formatted, wasUnclean } = volume;
  const { sizeBytes, freeBytes, inodes, inodesFree } = await usage(volume);
  const asides = await listAsides(volume.mountpoint);
  return { name, mode, device, sizeBytes, freeBytes, inodes, inodesFree, formatted, wasUnclean, asides };
}

function toWireState(state: MachineState, { buildsRunning, pressure, slots }: MachineFacts): State {
  const { phase, detail, error, stays, progress = null } = state;
  const waiting = { buildsWaiting: slots?.waiting ?? 0, waitingFor: pressure?.reason || waitingFor(slots) };
  const failure = error === undefined ? null : toWireError(error);
  const running = Math.max(0, buildsRunning - waiting.buildsWaiting);
  return { phase, detail, error: failure, buildsRunning: running, stays, progress, ...waiting };
}

/** Why builds wait that do not wait for room. */
function waitingFor(slots: SlotCounts | undefined): string {
  if (slots === undefined || slots.waiting === 0) return '';
  const { most, limit, running } = slots;
  return limit < most
    ? `memory is short, so that ${limit} of ${most} builds may run at once`
    : `${running} builds run, as many as may at once`;
}
