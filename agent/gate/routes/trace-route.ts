import { readCutFields } from '../../../common/protobuf.ts';
import type { Call, CallTap } from '../call.ts';
import { grpcCodes } from '../status.ts';
import { Opening } from './opening.ts';
import type { RouteContext } from './router.ts';

/**
 * A client's spans, which buildkitd keeps in memory by trace until a minute after the last came, for the record of the build
 * (util/tracing/detect/recorder.go). Those of a trace with several builds would go into no record but the first's, and are
 * taken here, as one bake has some 0.1 MB of them for each target.
 */
export function traceRoute({ traces, loose }: RouteContext, call: Call): CallTap {
  const opening = new Opening((message) => {
    const id = firstTrace(message);
    // An empty ExportTraceServiceResponse: all was taken.
    if (id !== undefined && traces.isSplit(id)) call.answer(ok, Buffer.alloc(0));
    else loose.pass(call);
  }, call);
  return { request: (chunk) => opening.push(chunk), requestEnded: () => opening.end() };
}

/**
 * Trace of the first span of an ExportTraceServiceRequest (opentelemetry/proto/collector/trace/v1): resource_spans = 1,
 * scope_spans = 2, spans = 2, trace_id = 1. A client sends what it has of one trace.
 */
function firstTrace(message: Buffer): string | undefined {
  let part: Buffer | undefined = message;
  for (const wanted of [1, 2, 2, 1]) part = part && firstBytes(part, wanted);
  return part?.length === 16 ? part.toString('hex') : undefined;
}

function firstBytes(message: Buffer, wanted: number): Buffer | undefined {
  for (const { number, bytes } of readCutFields(message)) if (number === wanted) return bytes;
  return undefined;
}

const ok = { code: grpcCodes.ok, message: '', details: undefined };
