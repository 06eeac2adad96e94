import { type Command, Option } from 'commander';
import { countValue, scopeValue, sizeValue } from './values.ts';

/** Adds the options of the VM, for commands that boot it. */
export function machineOptions(command: Command): Command {
  return command
    .optionsGroup('Options of the VM, when it is booted:')
    .option('--config <file>', 'boot config, TOML; the scope is put in')
    .option('--memory <size>', 'memory (default: 2GiB)', sizeValue)
    .option('--cpus <count>', "CPUs (default: the host's, at most 4)", countValue)
    .option('--cache-size <size>', 'size of the cache volume; it grows, and never shrinks', sizeValue)
    .option('--scratch-size <size>', 'size of the scratch volume', sizeValue)
    .addOption(
      new Option('--driver <name>', 'how the VM is run').choices(['qemu', 'process']).env('BUILDVISOR_DRIVER'),
    );
}

/** The option that names the scope. */
export function scopeOption(): Option {
  return new Option('-s, --scope <scope>', 'whose cache to build with, such as acme/app/main')
    .argParser(scopeValue)
    .env('BUILDVISOR_SCOPE');
}
