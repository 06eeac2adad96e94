import type { HeaderField } from '../call.ts';

/** Units of `grpc-timeout` in milliseconds (grpc/doc/PROTOCOL-HTTP2.md). */
const units: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** How long a call may take, in milliseconds, by its `grpc-timeout`; undefined when it has none that can be read. */
export function timeoutOf(headers: readonly HeaderField[]): number | undefined {
  for (const [name, value] of headers) {
    if (name !== 'grpc-timeout') continue;
    const match = /^(\d{1,8})([HMSmun])$/.exec(value);
    return match ? Number(match[1]) * (units[match[2] ?? ''] ?? 0) : undefined;
  }
  return undefined;
}

/** The headers with less time, in milliseconds. Never more than was there: it is rounded down, to no less than a nanosecond. */
export function withTimeout(headers: readonly HeaderField[], ms: number): HeaderField[] {
  return headers.map((field) => (field[0] === 'grpc-timeout' ? ['grpc-timeout', format(ms)] : field));
}

/** At most eight digits. */
function format(ms: number): string {
  for (const unit of ['n', 'u', 'm', 'S', 'M', 'H']) {
    const count = Math.floor(ms / (units[unit] ?? 1));
    if (count < 1e8) return `${Math.max(count, 1)}${unit}`;
  }
  return '99999999H';
}

/** The headers with the time that is left after so many milliseconds; undefined when there is none. */
export function headersAfter(headers: HeaderField[], ms: number): HeaderField[] | undefined {
  const timeout = timeoutOf(headers);
  if (timeout === undefined) return headers;
  return timeout > ms ? withTimeout(headers, timeout - ms) : undefined;
}
