import { createReadStream, readdirSync, readFileSync } from 'node:fs';
import { hasErrno } from '../../common/errors.ts';

/** struct input_event of a 64-bit kernel: two longs of time, then type u16, code u16, value s32. */
const eventSize = 24;
/** EV_KEY and KEY_POWER of include/uapi/linux/input-event-codes.h. */
const keyEvent = 1;
const powerKey = 116;

/** The event devices of power buttons: ACPI's, which a VMM presses to ask for a shutdown. */
function powerButtons(): string[] {
  const folder = '/sys/class/input';
  try {
    return readdirSync(folder)
      .filter((name) => /^event\d+$/.test(name))
      .filter((name) => /power button/i.test(readFileSync(`${folder}/${name}/device/name`, 'utf8')))
      .map((name) => `/dev/input/${name}`);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Calls `onPress` when the machine's power button is pressed. Gives how many buttons there are. */
export function watchPowerButton(onPress: () => void, say: (text: string) => void): number {
  // Each reader holds one thread of libuv's four in read(2) for good: one button is enough.
  const buttons = powerButtons().slice(0, 1);
  for (const path of buttons) {
    createReadStream(path, { highWaterMark: eventSize * 16 })
      .on('data', (bytes) => {
        if (Buffer.isBuffer(bytes) && isPress(bytes)) onPress();
      })
      .on('error', (error) => say(`power button: ${error.message}`));
  }
  return buttons.length;
}

/** Whether the power key going down is among these events. */
export function isPress(events: Buffer): boolean {
  for (let at = 0; at + eventSize <= events.length; at += eventSize) {
    const press = events.readInt32LE(at + 20) === 1;
    if (press && events.readUInt16LE(at + 16) === keyEvent && events.readUInt16LE(at + 18) === powerKey) return true;
  }
  return false;
}
