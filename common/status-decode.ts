import { readFields } from './protobuf.ts';
import type { SolveStatus, SourceRange, Vertex, VertexLog, VertexStatus, VertexWarning } from './status.ts';

/**
 * A serialised `moby.buildkit.v1.StatusResponse` (BuildKit's api/services/control/control.proto) in the shape that
 * `--progress=rawjson` prints, as BuildKit's client/status.go makes it.
 * @throws RangeError when the bytes are no such message
 */
export function decodeStatus(bytes: Buffer): SolveStatus {
  const status: SolveStatus = {};
  for (const { number, bytes: part } of readFields(bytes)) {
    if (part === undefined) continue;
    if (number === 1) status.vertexes = append(status.vertexes, decodeVertex(part));
    else if (number === 2) status.statuses = append(status.statuses, decodeVertexStatus(part));
    else if (number === 3) status.logs = append(status.logs, decodeLog(part));
    else if (number === 4) status.warnings = append(status.warnings, decodeWarning(part));
  }
  return status;
}

/** A serialised Vertex of such a message. @throws RangeError when the bytes are none */
export function decodeVertex(bytes: Buffer): Vertex {
  const vertex: Vertex = { digest: '', name: '' };
  for (const { number, bytes: part, value } of readFields(bytes)) {
    if (number === 4) {
      if (value) vertex.cached = true;
    } else if (part === undefined) continue;
    else if (number === 1) vertex.digest = part.toString();
    else if (number === 2) vertex.inputs = append(vertex.inputs, part.toString());
    else if (number === 3) vertex.name = part.toString();
    else if (number === 5) vertex.started = decodeTime(part);
    else if (number === 6) vertex.completed = decodeTime(part);
    else if (number === 7) vertex.error = part.toString();
    else if (number === 8) vertex.progressGroup = decodeProgressGroup(part);
  }
  return vertex;
}

function decodeProgressGroup(bytes: Buffer): NonNullable<Vertex['progressGroup']> {
  const group: NonNullable<Vertex['progressGroup']> = { id: '' };
  for (const { number, bytes: part, value } of readFields(bytes)) {
    if (number === 1) group.id = part?.toString() ?? '';
    else if (number === 2) group.name = part?.toString() ?? '';
    else if (number === 3 && value) group.weak = true;
  }
  return group;
}

function decodeVertexStatus(bytes: Buffer): VertexStatus {
  const status: VertexStatus = { id: '', vertex: '', current: 0, timestamp: epoch };
  for (const { number, bytes: part, value } of readFields(bytes)) {
    if (number === 4) status.current = value ?? 0;
    else if (number === 5) status.total = value ?? 0;
    else if (part === undefined) continue;
    else if (number === 1) status.id = part.toString();
    else if (number === 2) status.vertex = part.toString();
    else if (number === 3) status.name = part.toString();
    else if (number === 6) status.timestamp = decodeTime(part);
    else if (number === 7) status.started = decodeTime(part);
    else if (number === 8) status.completed = decodeTime(part);
  }
  return status;
}

function decodeLog(bytes: Buffer): VertexLog {
  const log: VertexLog = { vertex: '', data: '', timestamp: epoch };
  for (const { number, bytes: part, value } of readFields(bytes)) {
    if (number === 1) log.vertex = part?.toString() ?? '';
    else if (number === 2 && part) log.timestamp = decodeTime(part);
    else if (number === 3) log.stream = value ?? 0;
    else if (number === 4) log.data = part?.toString('base64') ?? '';
  }
  return log;
}

function decodeWarning(bytes: Buffer): VertexWarning {
  const warning: VertexWarning = { vertex: '' };
  for (const { number, bytes: part, value } of readFields(bytes)) {
    if (number === 2) warning.level = value ?? 0;
    else if (part === undefined) continue;
    else if (number === 1) warning.vertex = part.toString();
    else if (number === 3) warning.short = part.toString('base64');
    else if (number === 4) warning.detail = append(warning.detail, part.toString('base64'));
    else if (number === 5) warning.url = part.toString();
    else if (number === 6) warning.sourceInfo = decodeSource(part);
    else if (number === 7) warning.range = append(warning.range, decodeRange(part));
  }
  return warning;
}

function decodeSource(bytes: Buffer): NonNullable<VertexWarning['sourceInfo']> {
  const source: NonNullable<VertexWarning['sourceInfo']> = {};
  for (const { number, bytes: part } of readFields(bytes)) {
    if (part === undefined) continue;
    if (number === 1) source.filename = part.toString();
    else if (number === 2) source.data = part.toString('base64');
    else if (number === 4) source.language = part.toString();
  }
  return source;
}

function decodeRange(bytes: Buffer): SourceRange {
  const range: SourceRange = {};
  for (const { number, bytes: part } of readFields(bytes)) {
    if (part === undefined) continue;
    if (number === 1) range.start = decodePosition(part);
    else if (number === 2) range.end = decodePosition(part);
  }
  return range;
}

function decodePosition(bytes: Buffer): NonNullable<SourceRange['start']> {
  const position: NonNullable<SourceRange['start']> = {};
  for (const { number, value } of readFields(bytes)) {
    if (number === 1) position.line = value ?? 0;
    else if (number === 2) position.character = value ?? 0;
  }
  return position;
}

function append<T>(list: T[] | undefined, item: T): T[] {
  if (list === undefined) return [item];
  list.push(item);
  return list;
}

/** What Go prints for a timestamp that was not sent. */
const epoch = '1970-01-01T00:00:00Z';

/** A `google.protobuf.Timestamp` as Go's time.RFC3339Nano in UTC: nanoseconds, their trailing zeros left out. */
function decodeTime(bytes: Buffer): string {
  let seconds = 0;
  let nanos = 0;
  for (const { number, value } of readFields(bytes)) {
    if (number === 1) seconds = value ?? 0;
    else if (number === 2) nanos = value ?? 0;
  }
  const whole = new Date(seconds * 1000).toISOString().slice(0, -5);
  const fraction = nanos === 0 ? '' : `.${String(nanos).padStart(9, '0').replace(/0+$/, '')}`;
  return `${whole}${fraction}Z`;
}
