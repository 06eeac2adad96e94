import { connect } from 'node:http2';
import { createConnection } from 'node:net';
import { BuildvisorError } from '../../common/errors.ts';
import { readFields, readMapEntry, readString } from '../../common/protobuf.ts';

/** A worker as buildkitd tells of it. */
export interface WorkerInfo {
  id: string;
  /** Such as `linux/amd64` or `linux/arm/v7`. */
  platforms: string[];
  labels: Record<string, string>;
  /** buildkitd's version, such as `v0.33.1`. */
  version: string;
}

/**
 * Asks buildkitd for its worker, with one ListWorkers by hand: at boot no gRPC code is loaded yet.
 * @returns `undefined` while nobody answers at the socket
 * @throws BuildvisorError `BUILDKITD_FAILED` when it answers with an error or has no worker
 */
export function askWorker(socketPath: string, signal: AbortSignal): Promise<WorkerInfo | undefined> {
  return new Promise((resolve, reject) => {
    const session = connect('http://localhost', { createConnection: () => createConnection(socketPath) });
    const chunks: Buffer[] = [];
    let status: string | undefined;
    const stop = (): void => session.destroy();
    signal.addEventListener('abort', stop, { once: true });
    session.on('close', () => signal.removeEventListener('abort', stop));
    session.on('error', () => resolve(undefined));
    const call = session.request({
      ':method': 'POST',
      ':path': '/moby.buildkit.v1.Control/ListWorkers',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    call.on('response', (headers) => {
      status = text(headers['grpc-status']);
    });
    call.on('trailers', (trailers) => {
      status = text(trailers['grpc-status']);
    });
    call.on('data', (chunk: Buffer) => chunks.push(chunk));
    call.on('error', () => resolve(undefined));
    call.on('close', () => {
      session.destroy();
      if (status === undefined) return resolve(undefined);
      const worker = status === '0' ? readWorker(Buffer.concat(chunks).subarray(5)) : undefined;
      if (worker) return resolve(worker);
      reject(
        new BuildvisorError('BUILDKITD_FAILED', 'buildkitd answers, but has no worker', {
          facts: { grpcStatus: status },
        }),
      );
    });
    // An empty message: not compressed, no bytes.
    call.end(Buffer.alloc(5));
  });
}

/** The first record of a ListWorkersResponse (api/types/worker.proto). */
function readWorker(response: Buffer): WorkerInfo | undefined {
  for (const record of readFields(response)) if (record.number === 1 && record.bytes) return readRecord(record.bytes);
  return undefined;
}

function readRecord(record: Buffer): WorkerInfo {
  const worker: WorkerInfo = { id: '', platforms: [], labels: {}, version: '' };
  for (const { number, bytes } of readFields(record)) {
    if (bytes === undefined) continue;
    if (number === 1) worker.id = bytes.toString();
    else if (number === 2) worker.labels = { ...worker.labels, ...Object.fromEntries([readMapEntry(bytes)]) };
    else if (number === 3) worker.platforms.push(readPlatform(bytes));
    else if (number === 5) worker.version = readString(bytes, 2);
  }
  return worker;
}

/** `os/architecture[/variant]`, from pb.Platform (solver/pb/ops.proto). */
function readPlatform(platform: Buffer): string {
  const parts = [readString(platform, 2), readString(platform, 1), readString(platform, 3)];
  return parts.filter((part) => part !== '').join('/');
}

function text(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
