import type { MachineFlags } from '../machine-options.ts';
import type { ProgressMode } from '../progress/progress.ts';

/** Options of `buildvisor build`, as commander gives them. */
export interface BuildFlags extends MachineFlags {
  file?: string;
  tag?: string[];
  buildArg?: Record<string, string>;
  label?: Record<string, string>;
  target?: string;
  platform?: string[];
  output?: string[];
  push?: boolean;
  cache: boolean;
  pull?: boolean;
  network?: 'default' | 'none' | 'host';
  secret?: string[];
  ssh?: string[];
  metadataFile?: string;
  durable?: boolean;
  progress: ProgressMode;
  quiet?: boolean;
}
