import {
  errorCodes,
  frameFlags,
  frameHeaderBytes,
  frameTypes,
  maxPayload,
  maxWindow,
  newFrame,
  WireError,
} from './frames.ts';

/** RFC 9113, 6.5.2. */
export const settingIds = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

/** A parameter: identifier and value. */
export type Setting = readonly [id: number, value: number];

/** Reads the payload of a SETTINGS frame. Throws the WireError of a value that may not be (6.5.2). */
export function readSettings(payload: Buffer): Setting[] {
  const settings: Setting[] = [];
  for (let at = 0; at + 6 <= payload.length; at += 6) {
    const setting = [payload.readUInt16BE(at), payload.readUInt32BE(at + 2)] as const;
    checkSetting(setting);
    settings.push(setting);
  }
  return settings;
}

/** A SETTINGS frame. */
export function settingsFrame(settings: readonly Setting[]): Buffer {
  const frame = newFrame(frameTypes.settings, 0, 0, 6 * settings.length);
  settings.forEach(([id, value], index) => {
    frame.writeUInt16BE(id, frameHeaderBytes + 6 * index);
    frame.writeUInt32BE(value, frameHeaderBytes + 6 * index + 2);
  });
  return frame;
}

/** The answer to a SETTINGS frame. */
export function settingsAck(): Buffer {
  return newFrame(frameTypes.settings, frameFlags.ack, 0, 0);
}

/** The last value of a parameter in a list. */
export function settingOf(settings: readonly Setting[], wanted: number): number | undefined {
  return settings.findLast(([id]) => id === wanted)?.[1];
}

function checkSetting([id, value]: Setting): void {
  if (id === settingIds.enablePush && value > 1)
    throw new WireError(errorCodes.protocolError, `ENABLE_PUSH is 0 or 1, not ${value}`);
  if (id === settingIds.initialWindowSize && value > maxWindow)
    throw new WireError(errorCodes.flowControlError, `INITIAL_WINDOW_SIZE ${value} is over ${maxWindow}`);
  if (id === settingIds.maxFrameSize && (value < maxPayload || value > 2 ** 24 - 1))
    throw new WireError(errorCodes.protocolError, `MAX_FRAME_SIZE ${value} is not in ${maxPayload} to ${2 ** 24 - 1}`);
}
