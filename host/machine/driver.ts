import type { Duplex } from 'node:stream';
import type { Scope } from '../../common/scope.ts';
import type { Artefacts } from './artefacts.ts';

/** The ways to run a builder VM. */
export type DriverName = 'qemu' | 'process';

/** What a driver is given to start one VM. Every path is absolute and exists. */
export interface MachineSpec {
  scope: Scope;
  /** Folder for sockets: short, private to the user, this VM's own. */
  runtimeDir: string;
  /** The drives' files, by serial without `bv-`. No `cache` for an ephemeral VM. */
  drives: { config: string; scratch: string; cache: string | undefined };
  memoryBytes: number;
  cpus: number;
  artefacts: Partial<Artefacts>;
  /** Given to every process the driver starts, so that what a killed monitor leaves behind can be found. */
  env: Record<string, string>;
  /** Gets every byte of the guest's console, in order. */
  onConsole: (chunk: Buffer) => void;
  /** Gets the lines that the VMM and its helpers print themselves. */
  onLog: (line: string) => void;
}

/** How a VM's processes ended. Whether that was in order, the console's last line tells. */
export interface MachineExit {
  code: number | undefined;
  signal: string | undefined;
}

/** A VM whose processes run. */
export interface RunningMachine {
  /** What runs it, for people: `qemu 10.0.3, kvm`. */
  description: string;
  /** Sockets of the guest that need no relay, where the driver has such. */
  sockets: { api: string; buildkit: string } | undefined;
  /** A connection to a vsock port of the guest (`common/protocol.ts`). Rejects at once while the guest does not listen. */
  connect(port: number, signal: AbortSignal): Promise<Duplex>;
  /** Settles when the VM is gone and everything the driver made for it has been cleaned up. Never rejects. */
  exited: Promise<MachineExit>;
  /** Asks the guest from outside to power off (ACPI); returns when asked, not when done. */
  powerDown(): Promise<void>;
  /** Ends the VM at once, like a pulled plug. */
  kill(): void;
}

/** A way to run a builder VM. The guest cannot tell them apart but by what its kernel offers. */
export interface Driver {
  name: DriverName;
  /**
   * Starts the VM's processes; does not wait for the guest.
   * @throws BuildvisorError `ARTEFACT_MISSING`, `DRIVER_MISSING`, `VM_FAILED`
   */
  start(spec: MachineSpec, signal: AbortSignal): Promise<RunningMachine>;
}
