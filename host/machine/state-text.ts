import { formatBytes, formatDuration } from '../../common/units.ts';
import type { MachineState } from '../client/types.ts';

/** What a guest is at, with how far it has come: `opening the volumes and the network; checking the bv-cache volume, 45 %`. */
export function stateText({ detail, progress }: Pick<MachineState, 'detail' | 'progress'>): string {
  if (!progress) return detail;
  const { what, done, total, unit } = progress;
  const show = (count: number): string => {
    if (unit === 'bytes') return formatBytes(count);
    return unit === 'ms' ? formatDuration(count) : String(count);
  };
  const of = total > 0 ? ` of ${show(total)}` : '';
  const far = unit === 'percent' ? `${done} %` : `${show(done)}${of}${unit === 'entries' ? ' entries' : ''}`;
  return [detail, `${what}, ${far}`].filter((part) => part !== '').join('; ');
}
