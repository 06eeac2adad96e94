import { readFields, readString, writeBytes, writeNumber, writeString } from '../../../common/protobuf.ts';

/** A `google.rpc.Status`, what `grpc-status-details-bin` carries. */
export interface RpcStatus {
  code: number;
  message: Buffer;
  details: Detail[];
}

/** One detail, a `google.protobuf.Any`; BuildKit's are JSON and their types end in `+json` (util/grpcerrors, withDetails). */
export interface Detail {
  type: string;
  value: Buffer;
}

/** Reads a status; one that is cut off as far as it is there. Nothing is copied. */
export function readStatus(bytes: Buffer): { status: RpcStatus; isWhole: boolean } {
  const status: RpcStatus = { code: 0, message: none, details: [] };
  try {
    for (const { number, value, bytes: field } of readFields(bytes)) {
      if (number === 1) status.code = value ?? 0;
      else if (number === 2) status.message = field ?? none;
      else if (number === 3 && field) status.details.push(readDetail(field));
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { status, isWhole: false };
  }
  return { status, isWhole: true };
}

function readDetail(any: Buffer): Detail {
  const detail: Detail = { type: readString(any, 1), value: none };
  for (const { number, bytes } of readFields(any)) if (number === 2 && bytes) detail.value = bytes;
  return detail;
}

/** The status as bytes. */
export function writeStatus({ code, message, details }: RpcStatus): Buffer {
  const anys = details.map(({ type, value }) =>
    writeBytes(3, Buffer.concat([writeString(1, type), writeBytes(2, value)])),
  );
  return Buffer.concat([writeNumber(1, code), writeBytes(2, message), ...anys]);
}

const none = Buffer.alloc(0);
