/** HPACK, the compression of HTTP/2's headers (RFC 7541). Knows no gRPC. */
export { HpackDecoder } from './decoder.ts';
export { encodeHeaders } from './encoder.ts';
export { HpackError, ListTooLong } from './errors.ts';
export type { HeaderField } from './static-table.ts';
export { fieldBytes } from './table.ts';
