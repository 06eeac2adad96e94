/**
 * Debian packages taken from the machine's own mirror without touching the machine: an apt with sources, lists and a cache
 * of its own, which believes nothing is installed. So it names a package's whole closure, and any suite can be asked.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { BuildvisorError } from '../../common/errors.ts';

/** One package as it was fetched. */
export interface FetchedPackage {
  name: string;
  version: string;
  /** The .deb file. */
  file: string;
}

/** A mirror as the machine's apt names it. */
interface Mirror {
  uri: string;
  security: string | undefined;
  signedBy: string;
}

/** Release name of the machine's Debian, as `bookworm`. */
export async function machineRelease(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8');
  const codename = /^VERSION_CODENAME=(\S+)$/m.exec(text)?.[1];
  if (!codename) throw new BuildvisorError('INTERNAL', 'This machine does not say which Debian release it runs');
  return codename;
}

/** The Debian mirror, and that of its security updates, which this machine uses. */
async function readMirror(): Promise<Mirror> {
  const format = '$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(SIGNED_BY)|$(CREATED_BY)';
  let lines = (await execa('apt-get', ['indextargets', '--format', format])).stdout.split('\n');
  if (!lines.some((line) => line.includes('|Debian|'))) {
    await execa('apt-get', ['update'], { reject: false });
    lines = (await execa('apt-get', ['indextargets', '--format', format])).stdout.split('\n');
  }
  const debian = lines.map((line) => line.split('|')).filter(([, origin]) => origin === 'Debian');
  const main = debian.find(([, , label]) => label === 'Debian')?.[0];
  if (!main) {
    throw new BuildvisorError('INTERNAL', "This machine's apt names no Debian mirror", {
      hint: 'Set-up needs Debian with a working apt.',
    });
  }
  const security = debian.find(([, , label]) => label === 'Debian-Security')?.[0];
  return { uri: main, security, signedBy: '/usr/share/keyrings/debian-archive-keyring.gpg' };
}

/** An apt of our own. */
export class PrivateApt {
  readonly #dir: string;
  readonly #env: Record<string, string>;

  private constructor(dir: string) {
    this.#dir = dir;
    this.#env = { APT_CONFIG: join(dir, 'apt.conf'), DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  }

  /**
   * Makes an apt of these suites, which wants packages of the last one first, and hands it to `work`. Its lists and what
   * it fetched are gone when `work` is through.
   * @throws the error of `apt-get update`, when the mirror has no such suite.
   */
  static async with<T>(suites: readonly string[], work: (apt: PrivateApt) => Promise<T>): Promise<T> {
    const dir = await mkdtemp(join(tmpdir(), 'buildvisor-apt-'));
    try {
      const apt = new PrivateApt(dir);
      await apt.#prepare(suites);
      return await work(apt);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  async #prepare(suites: readonly string[]): Promise<void> {
    const mirror = await readMirror();
    const dir = this.#dir;
    for (const path of ['state/lists/partial', 'cache/archives/partial', 'parts'])
      await mkdir(join(dir, path), { recursive: true });
    const sources = suites.flatMap((suite) => {
      const uri = suite.endsWith('-security') ? mirror.security : mirror.uri;
      return uri ? [`deb [signed-by=${mirror.signedBy}] ${uri} ${suite} main`] : [];
    });
    await writeFile(join(dir, 'sources.list'), `${sources.join('\n')}\n`);
    await writeFile(join(dir, 'status'), '');
    const settings = {
      'Dir::State': join(dir, 'state'),
      'Dir::State::status': join(dir, 'status'),
      'Dir::Cache': join(dir, 'cache'),
      'Dir::Etc::sourcelist': join(dir, 'sources.list'),
      'Dir::Etc::sourceparts': join(dir, 'parts'),
      'Dir::Etc::preferencesparts': join(dir, 'parts'),
      'APT::Sandbox::User': 'root',
      'APT::Default-Release': suites.at(-1) ?? '',
      'APT::Install-Recommends': 'false',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '3',
      'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
    };
    const lines = Object.entries(settings).map(([key, value]) => `${key} "${value}";`);
    await writeFile(join(dir, 'apt.conf'), `${lines.join('\n')}\n`);
    await this.#run('apt-get', ['update', '--error-on=any']);
  }

  /** Fetches packages with all they depend on, in the order of their names. */
  async fetchClosure(names: readonly string[]): Promise<FetchedPackage[]> {
    await this.#run('apt-get', ['install', '--yes', '--download-only', ...names]);
    const archives = join(this.#dir, 'cache/archives');
    return describePackages(archives);
  }

  /** Fetches just these packages. */
  async fetchOnly(names: readonly string[]): Promise<FetchedPackage[]> {
    const into = join(this.#dir, 'only');
    await mkdir(into, { recursive: true });
    await this.#run('apt-get', ['download', ...names], into);
    return describePackages(into);
  }

  /** The packages that `name` (its newest version) depends on directly. */
  async dependsOf(name: string): Promise<string[]> {
    const text = await this.#run('apt-cache', ['show', '--no-all-versions', name]);
    const field = /^Depends: (.*)$/m.exec(text)?.[1] ?? '';
    return field.split(',').map((word) => word.trim().split(/[ |]/)[0] ?? '');
  }

  async #run(file: string, args: string[], cwd = this.#dir): Promise<string> {
    return (await execa(file, args, { cwd, env: this.#env })).stdout;
  }
}

async function describePackages(dir: string): Promise<FetchedPackage[]> {
  const files = (await readdir(dir)).filter((name) => name.endsWith('.deb')).sort();
  return Promise.all(
    files.map(async (name) => {
      const file = join(dir, name);
      const { stdout } = await execa('dpkg-deb', ['--field', file, 'Package', 'Version']);
      const [, packageName = '', version = ''] = /^Package: (.*)\nVersion: (.*)$/m.exec(stdout) ?? [];
      return { name: packageName, version, file };
    }),
  );
}

/** Unpacks packages into `tree`, running none of their scripts. `base-files` comes first: it brings the links of `/usr`. */
export async function unpack(packages: readonly FetchedPackage[], tree: string): Promise<void> {
  const first = packages.filter(({ name }) => name === 'base-files');
  for (const { file } of [...first, ...packages.filter(({ name }) => name !== 'base-files')]) {
    await execa('dpkg-deb', ['--extract', file, tree]);
  }
}
