import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Two network namespaces joined by a cable: the VMM with 10.0.2.2 and 10.0.2.3, and the guest with a bare `eth0`. */
export interface NetworkLab extends AsyncDisposable {
  dir: string;
  /** Name of the namespace of the guest, and of the VMM. */
  guest: string;
  vmm: string;
  /** Runs a program in a namespace to its end and gives its output. */
  in(namespace: string, file: string, ...args: string[]): string;
  /** Makes one more namespace, taken away with the lab. */
  add(name: string): string;
  /** Starts a program in a namespace until the lab ends; resolves with its first line of output. */
  start(namespace: string, file: string, ...args: string[]): Promise<string>;
}

export function openNetworkLab(): NetworkLab {
  const dir = mkdtempSync(join(tmpdir(), 'bv-network-'));
  const namespaces: string[] = [];
  const children: { kill(): Promise<void> }[] = [];
  const ip = (...args: string[]): void => void execFileSync('ip', args);
  const add = (name: string): string => {
    const namespace = `bv${process.pid}-${name}`;
    ip('netns', 'add', namespace);
    namespaces.push(namespace);
    return namespace;
  };
  const lab: NetworkLab = {
    dir,
    guest: add('guest'),
    vmm: add('vmm'),
    add,
    in: (namespace, file, ...args) =>
      execFileSync('ip', ['netns', 'exec', namespace, file, ...args], { encoding: 'utf8', timeout: 60_000 }),
    start: (namespace, file, ...args) => {
      const child = spawn('ip', ['netns', 'exec', namespace, file, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
      const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
      const kill = (): Promise<void> => {
        child.kill('SIGTERM');
        return ended;
      };
      children.push({ kill });
      return new Promise((resolve, reject) => {
        for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).once('line', resolve);
        child.once('close', () => reject(new Error(`${file} ended without a word`)));
      });
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) await child.kill();
      for (const namespace of namespaces) {
        // Such as a DHCP client whose agent was killed.
        const pids = execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' });
        for (const pid of pids.split('\n').filter((line) => line !== '')) process.kill(Number(pid), 'SIGKILL');
        ip('netns', 'del', namespace);
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
  ip('-n', lab.vmm, 'link', 'add', 'tap0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', lab.guest);
  for (const address of ['10.0.2.2/24', '10.0.2.3/24', '10.0.2.99/24', '198.51.100.1/32', '169.254.169.254/32'])
    ip('-n', lab.vmm, 'address', 'add', address, 'dev', 'tap0');
  ip('-n', lab.vmm, 'link', 'set', 'tap0', 'up');
  ip('-n', lab.vmm, 'link', 'set', 'lo', 'up');
  return lab;
}
