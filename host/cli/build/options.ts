import { usageError } from '../exit.ts';
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
  rerun?: boolean;
  generation?: string;
  pull?: boolean;
  network?: 'default' | 'none' | 'host';
  secret?: string[];
  ssh?: string[];
  metadataFile?: string;
  durable?: boolean;
  detach?: boolean;
  progress: ProgressMode;
  quiet?: boolean;
}

/**
 * The flags with the generation of the build's RUN steps: the one that is named, or a new one.
 * @throws BuildvisorError `USAGE`
 */
export function withGeneration(flags: BuildFlags): BuildFlags {
  const { rerun, generation, cache } = flags;
  if (generation === '') throw usageError('--generation needs a name');
  if (rerun && generation !== undefined) throw usageError('--rerun is a generation of its own; give one of the two');
  if (!cache && (rerun || generation !== undefined))
    throw usageError('--no-cache empties cache mounts, --rerun and --generation keep them; give one of them');
  return rerun ? { ...flags, generation: crypto.randomUUID() } : flags;
}
