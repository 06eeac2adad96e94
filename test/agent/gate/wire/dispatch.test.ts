import { expect, test } from 'vitest';
import { Dispatch, type FrameSink } from '../../../../agent/gate/wire/dispatch.ts';
import { errorCodes, newFrame } from '../../../../agent/gate/wire/frames.ts';

/** Keeps what it is told, in words. */
class Told implements FrameSink {
  readonly words: string[] = [];
  data = (stream: number, frame: Buffer, content: Buffer, end: boolean): void =>
    void this.words.push(`data ${stream} ${frame.length} ${content.toString('latin1')} ${end}`);
  headers = (stream: number, fragment: Buffer, endHeaders: boolean, endStream: boolean): void =>
    void this.words.push(`headers ${stream} ${fragment.toString('latin1')} ${endHeaders} ${endStream}`);
  continuation = (stream: number, fragment: Buffer, endHeaders: boolean): void =>
    void this.words.push(`continuation ${stream} ${fragment.toString('latin1')} ${endHeaders}`);
  rstStream = (stream: number, code: number): void => void this.words.push(`rst ${stream} ${code}`);
  settings = (settings: (readonly [number, number])[]): void => void this.words.push(`settings ${settings.join(' ')}`);
  settingsAck = (): void => void this.words.push('settings ack');
  ping = (frame: Buffer, ack: boolean): void => void this.words.push(`ping ${frame.length} ${ack}`);
  goAway = (last: number, code: number, debug: Buffer): void => void this.words.push(`goaway ${last} ${code} ${debug}`);
  windowUpdate = (stream: number, bytes: number): void => void this.words.push(`window ${stream} ${bytes}`);
  streamError = (stream: number, code: number): void => void this.words.push(`error ${stream} ${code}`);
}

type Sent = [type: number, flags: number, stream: number, payload: number[] | string];

function frameOf([type, flags, stream, payload]: Sent): Buffer {
  const bytes = Buffer.from(payload as string, 'latin1');
  const frame = newFrame(type, flags, stream, bytes.length);
  bytes.copy(frame, 9);
  return frame;
}

/** What is told of frames after the first SETTINGS. */
function dispatched(...frames: Sent[]): string[] {
  const told = new Told();
  const dispatch = new Dispatch(told);
  dispatch.frame(frameOf([4, 0, 0, '']));
  for (const frame of frames) dispatch.frame(frameOf(frame));
  return told.words.slice(1);
}

test.each<[string, Sent[], string[]]>([
  ['DATA', [[0, 1, 3, 'abc']], ['data 3 12 abc true']],
  ['padded DATA', [[0, 8, 3, '\x02abc\0\0']], ['data 3 15 abc false']],
  ['DATA that is all padding', [[0, 8, 3, '\x02\0\0']], ['data 3 12  false']],
  ['HEADERS', [[1, 5, 3, 'abc']], ['headers 3 abc true true']],
  ['HEADERS with padding and priority', [[1, 0x2c, 3, '\x01\0\0\0\0\x10abc\0']], ['headers 3 abc true false']],
  [
    'a header block in pieces',
    [
      [1, 1, 3, 'a'],
      [9, 0, 3, 'b'],
      [9, 4, 3, 'c'],
      [0, 0, 3, 'd'],
    ],
    ['headers 3 a false true', 'continuation 3 b false', 'continuation 3 c true', 'data 3 10 d false'],
  ],
  ['PRIORITY, which goes no further', [[2, 0, 3, '\0\0\0\0\x10']], []],
  ['PRIORITY of a wrong length', [[2, 0, 3, '\0']], [`error 3 ${errorCodes.frameSizeError}`]],
  ['RST_STREAM', [[3, 0, 3, '\0\0\0\x08']], ['rst 3 8']],
  ['SETTINGS', [[4, 0, 0, '\0\x04\0\0\0\x07\0\x99\0\0\0\x01']], ['settings 4,7 153,1']],
  ["SETTINGS' acknowledgement", [[4, 1, 0, '']], ['settings ack']],
  ['PING', [[6, 1, 0, '12345678']], ['ping 17 true']],
  ['GOAWAY', [[7, 0, 0, '\0\0\0\x05\0\0\0\x02why']], ['goaway 5 2 why']],
  ['WINDOW_UPDATE, without the reserved bit', [[8, 0, 3, '\x80\0\0\x05']], ['window 3 5']],
  ['an empty WINDOW_UPDATE of a stream', [[8, 0, 3, '\0\0\0\0']], [`error 3 ${errorCodes.protocolError}`]],
  ['a type that nobody knows', [[0x20, 0xff, 9, 'abc']], []],
])('%s', (_, frames, told) => {
  expect(dispatched(...frames)).toEqual(told);
});

test.each<[string, number, Sent[]]>([
  ['DATA of no stream', errorCodes.protocolError, [[0, 0, 0, 'a']]],
  ['DATA with more padding than payload', errorCodes.protocolError, [[0, 8, 1, '\x03abc'.slice(0, 3)]]],
  ['DATA without the padding that it has', errorCodes.frameSizeError, [[0, 8, 1, '']]],
  ['HEADERS of no stream', errorCodes.protocolError, [[1, 4, 0, '']]],
  ['HEADERS too short for their priority', errorCodes.frameSizeError, [[1, 0x24, 1, '\0\0\0']]],
  ['HEADERS with more padding than payload', errorCodes.protocolError, [[1, 0xc, 1, '\x09abc']]],
  ['CONTINUATION of nothing', errorCodes.protocolError, [[9, 4, 1, '']]],
  [
    'CONTINUATION of another stream',
    errorCodes.protocolError,
    [
      [1, 0, 1, ''],
      [9, 4, 3, ''],
    ],
  ],
  [
    'another frame in a header block',
    errorCodes.protocolError,
    [
      [1, 0, 1, ''],
      [6, 0, 0, '12345678'],
    ],
  ],
  [
    'an unknown frame in a header block',
    errorCodes.protocolError,
    [
      [1, 0, 1, ''],
      [0x77, 0, 1, ''],
    ],
  ],
  [
    'CONTINUATION after the end of the block',
    errorCodes.protocolError,
    [
      [1, 4, 1, ''],
      [9, 4, 1, ''],
    ],
  ],
  ['PRIORITY of no stream', errorCodes.protocolError, [[2, 0, 0, '\0\0\0\0\0']]],
  ['RST_STREAM of no stream', errorCodes.protocolError, [[3, 0, 0, '\0\0\0\0']]],
  ['RST_STREAM of a wrong length', errorCodes.frameSizeError, [[3, 0, 1, '\0\0\0']]],
  ['SETTINGS of a stream', errorCodes.protocolError, [[4, 0, 1, '']]],
  ['SETTINGS of a wrong length', errorCodes.frameSizeError, [[4, 0, 0, '\0\0\0']]],
  ["SETTINGS' acknowledgement with something in it", errorCodes.frameSizeError, [[4, 1, 0, '\0\x04\0\0\0\x07']]],
  ['ENABLE_PUSH 2', errorCodes.protocolError, [[4, 0, 0, '\0\x02\0\0\0\x02']]],
  ['INITIAL_WINDOW_SIZE 2^31', errorCodes.flowControlError, [[4, 0, 0, '\0\x04\x80\0\0\0']]],
  ['MAX_FRAME_SIZE 16383', errorCodes.protocolError, [[4, 0, 0, '\0\x05\0\0\x3f\xff']]],
  ['PUSH_PROMISE', errorCodes.protocolError, [[5, 4, 1, '\0\0\0\x02']]],
  ['PING of a stream', errorCodes.protocolError, [[6, 0, 1, '12345678']]],
  ['PING of a wrong length', errorCodes.frameSizeError, [[6, 0, 0, '1234567']]],
  ['GOAWAY of a stream', errorCodes.protocolError, [[7, 0, 1, '\0\0\0\0\0\0\0\0']]],
  ['GOAWAY of a wrong length', errorCodes.frameSizeError, [[7, 0, 0, '\0\0\0\0']]],
  ['an empty WINDOW_UPDATE of the connection', errorCodes.protocolError, [[8, 0, 0, '\0\0\0\0']]],
  ['WINDOW_UPDATE of a wrong length', errorCodes.frameSizeError, [[8, 0, 1, '\0\0\0']]],
])('%s ends the connection', (_, code, frames) => {
  expect(() => dispatched(...frames)).toThrow(expect.objectContaining({ code }));
});

test.each<[string, Sent]>([
  ['DATA', [0, 0, 1, '']],
  ["SETTINGS' acknowledgement", [4, 1, 0, '']],
  ['an unknown frame', [0x42, 0, 0, '']],
])('%s is no beginning', (_, frame) => {
  const dispatch = new Dispatch(new Told());
  expect(() => dispatch.frame(frameOf(frame))).toThrow(expect.objectContaining({ code: errorCodes.protocolError }));
});
