import { join } from 'node:path';
import { type Config, type GcPolicy, watermarksOf } from '../config/index.ts';
import type { Logger } from '../log.ts';
import { usage, type Volume } from '../volumes/volume.ts';
import type { Control } from './control.ts';
import { Pressure, type PressureOptions } from './pressure.ts';
import { Reserve } from './reserve.ts';

/** Name of the file, beside BuildKit's root, that holds space back. */
const reserveFile = 'reserve';

/** What {@link openPressure} works with. */
export interface OpenPressureOptions {
  /** The volume that holds BuildKit's root. */
  volume: Volume;
  gc: Config['gc'];
  policies: readonly GcPolicy[];
  control: Control;
  /** Whether buildkitd answers. */
  ready: () => boolean;
  /** Builds that buildkitd works on. */
  running: () => number;
  sweeper: PressureOptions['sweeper'];
  onChange: () => void;
  log: Logger;
}

/** Makes the watch over a volume; it begins with `start`. */
export async function openPressure({ volume, gc, ...rest }: OpenPressureOptions): Promise<Pressure> {
  const look = (): ReturnType<typeof usage> => usage(volume);
  const marks = watermarksOf(gc, await look());
  const reserve = new Reserve(join(volume.mountpoint, reserveFile), marks.reserveBytes);
  await reserve.open();
  return new Pressure({ ...rest, marks, reserve, look });
}
