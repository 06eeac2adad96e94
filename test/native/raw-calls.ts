import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { readFields, readString, writeString } from '../../common/protobuf.ts';

/** What a call came to: everything a client can see of it. */
export interface RawOutcome {
  /** gRPC's code by name, or `LATE` when the deadline ended it. */
  code: string;
  /** gRPC's message; left out of a deadline's, as it has times in it. */
  details: string;
  /** The serialised answers, their bytes sorted: the order of a map's entries changes from answer to answer. */
  messages: string[];
  /** The answer's headers and trailers, but for the time of day. */
  headers: Record<string, unknown>;
  trailers: Record<string, unknown>;
}

/** A method of gRPC with what is sent to it. */
export interface RawCall {
  path: string;
  /** Serialised requests; one empty one when left out. */
  messages?: readonly Buffer[];
  metadata?: Record<string, string>;
  /** Milliseconds. */
  deadlineMs?: number;
}

const plain = (bytes: Buffer): Buffer => bytes;

/** Opens connections of their own to a Unix socket. */
export function rawClient(socket: string): Client {
  return new Client(`unix:${socket}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_receive_message_length': -1,
  });
}

/** Begins a call without a word about its kind: on the wire they are all alike. */
export function openRawCall(
  client: Client,
  { path, metadata = {}, deadlineMs }: RawCall,
): ClientDuplexStream<Buffer, Buffer> {
  const sent = new Metadata();
  for (const [name, value] of Object.entries(metadata)) sent.set(name, value);
  const options = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
  return client.makeBidiStreamRequest(path, plain, plain, sent, options);
}

/** Makes a call to its end. */
export function rawCall(client: Client, call: RawCall): Promise<RawOutcome> {
  return new Promise((resolve) => {
    const stream = openRawCall(client, call);
    const messages: string[] = [];
    let headers: Record<string, unknown> = {};
    stream.on('metadata', (metadata: Metadata) => {
      metadata.remove('buildkit-current-timestamp');
      headers = metadata.getMap();
    });
    stream.on('data', (message: Buffer) => messages.push(Buffer.from(message).sort().toString('latin1')));
    stream.on('error', (_error: ServiceError) => undefined);
    stream.on('status', ({ code, details, metadata }) => {
      const seen = { messages, headers, trailers: readable(metadata) };
      // The server may be quicker to call off what has passed its deadline.
      const late = code === status.DEADLINE_EXCEEDED || (code === status.CANCELLED && call.deadlineMs !== undefined);
      resolve(late ? { ...seen, code: 'LATE', details: '' } : { ...seen, code: status[code], details });
    });
    for (const message of call.messages ?? [Buffer.alloc(0)]) stream.write(message);
    stream.end();
  });
}

/** Trailers with what the error's details are, in place of their bytes: those have stacks, which differ from call to call. */
function readable(metadata: Metadata): Record<string, unknown> {
  const { 'grpc-status-details-bin': details, ...others } = metadata.getMap();
  if (!Buffer.isBuffer(details)) return others;
  // google.rpc.Status: code = 1, message = 2, details = 3, each an Any with type_url = 1.
  const types = fieldsOf(details, 3).map((any) => readString(any, 1));
  return { ...others, details: { message: readString(details, 2), types: [...new Set(types)].sort() } };
}

const reflection = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';

/** Every method that a server has, by reflection (grpc/reflection/v1/reflection.proto). */
export async function listMethods(client: Client): Promise<string[]> {
  // list_services = 7; list_services_response = 6, service = 1, name = 1.
  const [listed] = fieldsOf(await ask(client, writeString(7, '')), 6);
  const services = fieldsOf(listed, 1).map((service) => readString(service, 1));
  const methods = await Promise.all(services.map((service) => methodsOf(client, service)));
  return methods.flat().sort();
}

async function methodsOf(client: Client, name: string): Promise<string[]> {
  // file_containing_symbol = 4; file_descriptor_response = 4, file_descriptor_proto = 1.
  const [found] = fieldsOf(await ask(client, writeString(4, name)), 4);
  return fieldsOf(found, 1).flatMap((file) => {
    // google/protobuf/descriptor.proto: package = 2, service = 6; in it name = 1, method = 2, in which name = 1.
    const prefix = readString(file, 2);
    return fieldsOf(file, 6)
      .map((service) => ({ service, full: `${prefix}.${readString(service, 1)}` }))
      .filter(({ full }) => full === name)
      .flatMap(({ service, full }) => fieldsOf(service, 2).map((method) => `/${full}/${readString(method, 1)}`));
  });
}

function ask(client: Client, question: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stream = openRawCall(client, { path: reflection });
    stream.on('data', resolve).on('error', reject);
    stream.end(question);
  });
}

function fieldsOf(message: Buffer | undefined, number: number): Buffer[] {
  if (message === undefined) return [];
  return [...readFields(message)].flatMap((field) => (field.number === number && field.bytes ? [field.bytes] : []));
}
