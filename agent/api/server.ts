import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { buildvisorServices, codecOf, packageDefinition } from '../../common/descriptors.ts';
import type { Cache } from '../cache/cache.ts';
import type { Logger } from '../log.ts';
import { type BuildsService, buildsHandlers } from './builds.ts';
import { cacheHandlers } from './cache.ts';
import { Handlers } from './calls.ts';
import type { EventOrBytes } from './follower.ts';
import { healthHandlers } from './health.ts';
import { type MachineService, machineHandlers } from './machine.ts';
import { reflectionHandlers } from './reflection.ts';
import { type ShellService, shellHandlers } from './shell.ts';
import { type VolumesService, volumesHandlers } from './volumes.ts';

/** What the API serves. What is not there yet throws when it is asked for, and the caller gets that error. */
export interface ApiOptions {
  machine: MachineService;
  builds: () => BuildsService;
  cache: () => Cache;
  shell: () => ShellService;
  volumes: () => VolumesService;
  log: Logger;
}

/** The API: connections in, calls answered. */
export interface Api {
  /** Serves a connection until one side ends it. */
  accept(connection: Duplex): void;
  /** Lets calls that are about to end do so, for a moment, and then ends all calls and connections. */
  close(): Promise<void>;
}

/** A message of a client is a spec or a chunk of at most 1 MiB; a status of thousands of steps goes out in one piece. */
const options = {
  'grpc.max_receive_message_length': 4 * 1024 ** 2,
  'grpc.max_send_message_length': -1,
  // A host that hangs does not close its connections; its builds are then called off.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.max_concurrent_streams': 1000,
};

/** How long calls may take to end when the API closes, in milliseconds. */
const closeLimitMs = 1000;

/** Makes the API's server with all its services. It listens to nothing: connections are given to it. */
export function createApi({ machine, builds, cache, shell, volumes, log }: ApiOptions): Api {
  const server = new Server(options);
  const handlers = new Handlers(log);
  const services = buildvisorServices();
  server.addService(services.Machine.service, machineHandlers(handlers, machine));
  server.addService(withRawEvents(services.Builds.service), buildsHandlers(handlers, builds));
  server.addService(services.Cache.service, cacheHandlers(handlers, cache));
  server.addService(services.Shell.service, shellHandlers(handlers, shell));
  server.addService(services.Volumes.service, volumesHandlers(handlers, volumes));
  const names = [
    'buildvisor.v1.Machine',
    'buildvisor.v1.Builds',
    'buildvisor.v1.Cache',
    'buildvisor.v1.Shell',
    'buildvisor.v1.Volumes',
  ];
  server.addService(standard('grpc.health.v1.Health'), healthHandlers(handlers, machine.state, names));
  const reflection = reflectionHandlers(handlers, () => ({
    ...packageDefinition('buildvisor'),
    ...packageDefinition('grpc'),
  }));
  for (const version of ['v1', 'v1alpha'])
    server.addService(standard(`grpc.reflection.${version}.ServerReflection`), reflection);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const connections = new Set<Duplex>();
  return {
    accept(connection) {
      connections.add(connection);
      connection.once('close', () => connections.delete(connection));
      // A client that is gone: its calls were told by their own streams.
      connection.on('error', (error) => log.debug({ err: error }, 'connection to the API failed'));
      injector.injectConnection(connection);
    },
    async close() {
      machine.state.end();
      injector.drain(closeLimitMs);
      const gone = Promise.all([...connections].map(untilClosed));
      await Promise.race([gone, sleep(closeLimitMs, undefined, { ref: false })]);
      server.forceShutdown();
    },
  };
}

function untilClosed(connection: Duplex): Promise<void> {
  return new Promise((resolve) => connection.once('close', resolve));
}

/** Events lie in the journal in their serialised form and go out as they are. */
function withRawEvents<Service extends ServiceDefinition<UntypedServiceImplementation>>(service: Service): Service {
  const { encode } = codecOf('BuildEvent');
  const responseSerialize = (event: EventOrBytes): Buffer => (Buffer.isBuffer(event) ? event : encode(event));
  const { Build, Watch } = service;
  return { ...service, Build: { ...Build, responseSerialize }, Watch: { ...Watch, responseSerialize } };
}

function standard(name: string): ServiceDefinition<UntypedServiceImplementation> {
  return packageDefinition('grpc')[name] as ServiceDefinition<UntypedServiceImplementation>;
}
