import { readCutFields } from '../../common/protobuf.ts';

/**
 * What a solve is of, as far as its request shows it. Build arguments, labels and secrets are never in it, and URLs are without
 * user, password and query, where people put tokens.
 */
export interface SolveAbout {
  /** Such as `dockerfile.v0` or `gateway.v0`; empty when the client calls it itself, as buildx and buildctl do. */
  frontend: string;
  /** Path of the Dockerfile, as the client names it. */
  dockerfile: string;
  target: string;
  /** The context when it is a URL; empty when it is a folder of the client's. */
  context: string;
  platforms: string[];
  /** Names of the image. */
  tags: string[];
}

/** Characters of each text, and members of each list. */
const most = { text: 200, members: 10 };

/** Fields of SolveRequest and Exporter (BuildKit's api/services/control/control.proto). */
const fields = { exporterAttrs: 4, frontend: 6, frontendAttrs: 7, exporters: 13, exporter: { attrs: 2 } };

/** Reads a serialised `moby.buildkit.v1.SolveRequest`, or the beginning of one: what comes after the cut is then not known. */
export function readSolveAbout(request: Buffer): SolveAbout {
  const about: SolveAbout = { frontend: '', dockerfile: '', target: '', context: '', platforms: [], tags: [] };
  for (const { number, bytes } of readCutFields(request)) {
    if (bytes === undefined) continue;
    if (number === fields.frontend) about.frontend = cut(bytes.toString());
    else if (number === fields.frontendAttrs) addAttribute(about, readEntry(bytes));
    else if (number === fields.exporterAttrs) addName(about, readEntry(bytes));
    else if (number === fields.exporters) {
      for (const field of readCutFields(bytes))
        if (field.number === fields.exporter.attrs && field.bytes) addName(about, readEntry(field.bytes));
    }
  }
  return about;
}

/** The attributes of the Dockerfile frontend that are shown (frontend/dockerui/config.go). */
function addAttribute(about: SolveAbout, [key, value]: [string, string]): void {
  if (key === 'filename') about.dockerfile = cut(value);
  else if (key === 'target') about.target = cut(value);
  else if (key === 'platform') about.platforms = list(value);
  else if (key === 'context') about.context = cut(withoutSecrets(value));
}

/** The attribute `name` of an exporter (exporter/containerimage/exptypes/keys.go): names of the image, separated by commas. */
function addName(about: SolveAbout, [key, value]: [string, string]): void {
  if (key === 'name') about.tags = [...new Set([...about.tags, ...list(value)])].slice(0, most.members);
}

function list(text: string): string[] {
  return text.split(',').filter(Boolean).slice(0, most.members).map(cut);
}

/** A URL, or git's `user@host:path`, without what may be secret in it. One that may be cut off before its `@` is not shown. */
function withoutSecrets(url: string): string {
  const [plain = ''] = url.split('?');
  if (/^[a-z][a-z0-9+.-]*:\/\/[^/]*$/i.test(plain)) return '';
  return plain.replace(/^([a-z][a-z0-9+.-]*:\/\/)?[^/]*@/i, '$1');
}

function cut(text: string): string {
  return text.slice(0, most.text);
}

function readEntry(entry: Buffer): [key: string, value: string] {
  const [key, value] = [1, 2].map((wanted) => {
    for (const { number, bytes } of readCutFields(entry)) if (number === wanted) return bytes?.toString() ?? '';
    return '';
  });
  return [key ?? '', value ?? ''];
}
