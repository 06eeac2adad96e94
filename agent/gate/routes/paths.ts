/** Names of the services of BuildKit's API whose calls are looked at. */
export const control = '/moby.buildkit.v1.Control/';
export const bridge = '/moby.buildkit.v1.frontend.LLBBridge/';
export const traceExport = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
const content = '/containerd.services.content.v1.Content/';
export const contentRead = `${content}Read`;
export const contentUpdate = `${content}Update`;

/** Header that names the build which a call to the LLBBridge belongs to (client/buildid/metadata.go). */
export const buildId = 'buildkit-controlapi-buildid';
