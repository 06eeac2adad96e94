/** The host's library: VMs, and their clients. */
export { BuildvisorError, isBuildvisorError, isUserCode } from '../common/errors.ts';
export { parseScope, type Scope } from '../common/scope.ts';
export type * from '../common/status.ts';
export { buildDirectory, type DirectoryBuild } from './client/build-directory.ts';
export { connectApi } from './client/connect.ts';
export { type FollowOptions, followBuild } from './client/follow.ts';
export type * from './client/types.ts';
export type { DriverName } from './machine/driver.ts';
export { down, ensureUp, find, type KnownMachine, list, type Machine, type UpOptions } from './machine/machines.ts';
export type { VmPhase, VmState } from './machine/vm-state.ts';
