/** A real registry for the tests: no public one can be assumed. */
import { join } from 'node:path';
import { machineRelease, PrivateApt, unpack } from './apt.ts';
import { artefact } from './artefact.ts';

/** The distribution registry of the machine's release, unpacked into our cache so that no service is started. */
export async function prepareRegistry(): Promise<string> {
  const release = await machineRelease();
  const dir = await artefact({
    kind: 'registry',
    inputs: ['docker-registry', release],
    build: (into) => PrivateApt.with([release], async (apt) => unpack(await apt.fetchOnly(['docker-registry']), into)),
  });
  return join(dir, 'usr/bin/docker-registry');
}
