import * as z from 'zod/mini';
import { flag, list, notes, optional, table, text, withDefault } from './fields.ts';
import { quote } from './words.ts';

const host = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/;
const mirror = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?(?:\/[a-z0-9._/-]+)?$/;
/** Names people write for Docker Hub; BuildKit looks its settings up as `docker.io` (util/resolver/resolver.go). */
const hubNames = ['index.docker.io', 'registry-1.docker.io', 'hub.docker.com', 'registry.hub.docker.com'];

/** The certificates of a text in PEM, each as its own text. */
export function splitCertificates(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}

/** Go skips what it cannot parse in a CA file without a word, so that a registry would only be found unreachable. */
function isCertificates(pem: string): boolean {
  const found = splitCertificates(pem);
  if (found.length === 0 || /PRIVATE KEY/.test(pem)) return false;
  // Loading it takes longer than all else here, and boot waits for the config.
  const { X509Certificate } = process.getBuiltinModule('node:crypto');
  try {
    for (const certificate of found) new X509Certificate(certificate);
    return true;
  } catch {
    return false;
  }
}

const registry = table(
  'How buildkitd reaches a registry.',
  {
    mirrors: withDefault(
      list(
        'Mirrors, asked in this order before the registry itself. How a mirror is reached is said in a `[registry."HOST"]` of its own.',
        text('', '"host[:port][/path]" without a scheme', mirror),
      ),
      [],
      '[]',
    ),
    http: withDefault(flag('Plain HTTP, without encryption.'), false, 'false'),
    insecure: withDefault(flag('HTTPS without a check of the certificate.'), false, 'false'),
    ca: optional(
      text(
        'Certificates to trust besides the usual ones.',
        'PEM text of certificates ("-----BEGIN CERTIFICATE-----…"), without keys',
        isCertificates,
      ),
    ),
  },
  function* ({ http, insecure, ca }) {
    if (http && insecure) yield ['insecure', 'cannot be had together with http = true; choose one'];
    if (http && ca) yield ['ca', 'has no meaning with http = true; remove one'];
  },
);

/** `[registry."HOST"]`, by host. */
export const registryTable = z.prefault(
  z
    .record(z.string(), registry)
    .check((context) => {
      for (const name of Object.keys(context.value)) {
        const hub = hubNames.includes(name) ? '; Docker Hub is "docker.io" here' : '';
        if (host.test(name) && !hub) continue;
        const message = `${quote(name)} is not a registry${hub || '; expected "host" or "host:port" without a scheme'}`;
        context.issues.push({ code: 'custom', path: [name], message, input: name });
      }
    })
    .register(notes, { takes: 'tables by host', about: 'Registries by host, such as `[registry."docker.io"]`.' }),
  {},
);
