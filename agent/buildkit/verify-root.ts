import { join } from 'node:path';
import { BuildvisorError } from '../../common/errors.ts';
import type { Platform } from '../sys/platform.ts';
import { run } from '../sys/run.ts';

/** Longest time a check may take, in milliseconds: it reads every page of the databases. */
export const verifyLimitMs = 30 * 60_000;

/** What is wrong with a root, and what was removed for it (rootfs/rootcheck). */
export interface RootReport {
  /** Databases that BuildKit makes anew, and snapshot folders that no record named: removed. Paths below the root. */
  removed: string[];
  /** IDs of cache records whose files are missing. */
  dangling: string[];
  /** Why the root is of no use. */
  broken: string[];
}

/** What an unclean stop did to BuildKit's root, and what was done about it. */
export interface RepairReport {
  /** Databases and snapshot folders that were removed. */
  removed: string[];
  /** Cache records that BuildKit was made to forget: sources that clients sent, and records whose files were missing. */
  sourcesPruned: number;
  recordsPruned: number;
  /** Why the whole root was set aside; empty when it was not. */
  setAside: string;
}

/**
 * Looks over a root that nobody uses, after an unclean stop, and removes what can be removed without loss.
 * @throws BuildvisorError `COMMAND_FAILED`, `TIMED_OUT`, `ABORTED`
 */
export async function verifyRoot(
  { toolsDir }: Pick<Platform, 'toolsDir'>,
  root: string,
  signal?: AbortSignal,
): Promise<RootReport> {
  const { stdout } = await run(join(toolsDir, 'rootcheck'), ['-repair', root], { limitMs: verifyLimitMs, signal });
  const report: unknown = JSON.parse(stdout);
  if (!isReport(report)) throw new BuildvisorError('INTERNAL', 'rootcheck said something else than a report');
  return report;
}

function isReport(value: unknown): value is RootReport {
  const isList = (list: unknown): boolean => Array.isArray(list) && list.every((item) => typeof item === 'string');
  const { removed, dangling, broken } = { ...(value as Partial<RootReport> | null) };
  return isList(removed) && isList(dangling) && isList(broken);
}
