import { statSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { OutputSpec } from './outputs.ts';

/** A file or directory that a build has written. */
export interface WrittenOutput {
  spec: OutputSpec;
  path: string;
  /** Bytes of a file. */
  bytes: number | undefined;
}

/**
 * Files are written beside their destination and renamed when the build has passed, so that a build that fails leaves an older
 * file as it was.
 */
export class OutputFiles {
  readonly #files: { spec: OutputSpec; partial: string | undefined }[];

  constructor(specs: readonly OutputSpec[]) {
    this.#files = specs.map((spec) => ({ spec, partial: partialPath(spec) }));
  }

  /** Where to write each spec's output now. */
  get destinations(): { spec: OutputSpec; dest: string | undefined }[] {
    return this.#files.map(({ spec, partial }) => ({ spec, dest: partial ?? spec.dest }));
  }

  /** Puts the files in place. */
  async keep(): Promise<WrittenOutput[]> {
    const written: WrittenOutput[] = [];
    for (const { spec, partial } of this.#files) {
      if (spec.dest === undefined || spec.dest === '-') continue;
      if (partial !== undefined) await rename(partial, spec.dest);
      const found = statSync(spec.dest, { throwIfNoEntry: false });
      written.push({ spec, path: spec.dest, bytes: found?.isFile() ? found.size : undefined });
    }
    return written;
  }

  /** Removes what was written. */
  async discard(): Promise<void> {
    for (const { partial } of this.#files) if (partial !== undefined) await rm(partial, { force: true });
  }
}

function partialPath(spec: OutputSpec): string | undefined {
  const directory = spec.type === 'local' || spec.attributes.tar === 'false';
  if (spec.dest === undefined || spec.dest === '-' || directory) return undefined;
  const found = statSync(spec.dest, { throwIfNoEntry: false });
  // A pipe or a device is written to as it is.
  if (found && !found.isFile()) return undefined;
  return join(dirname(spec.dest), `.${basename(spec.dest)}.${process.pid}.partial`);
}
