import { generationOption } from '../../common/generation.ts';
import type { BuildSpec } from './spec.ts';

/**
 * The arguments of `buildctl` for a build whose context lies unpacked in `context`; the gate listens on `socket`.
 *
 * The Dockerfile is named relative to the context, and never by a path of ours: BuildKit then resolves links with the
 * context as its root, so that a link out of it leads nowhere.
 */
export function buildctlArguments(spec: BuildSpec, context: string, socket: string): string[] {
  const options: [string, string][] = [['filename', spec.dockerfile]];
  if (spec.target !== '') options.push(['target', spec.target]);
  for (const [key, value] of Object.entries(spec.buildArgs)) options.push([`build-arg:${key}`, value]);
  for (const [key, value] of Object.entries(spec.labels)) options.push([`label:${key}`, value]);
  if (spec.platforms.length > 0) options.push(['platform', spec.platforms.join(',')]);
  if (spec.pull) options.push(['image-resolve-mode', 'pull']);
  if (spec.generation !== '') options.push(generationOption(spec.generation));
  if (spec.network !== 'default') options.push(['force-network-mode', spec.network]);
  return [
    ...['--addr', `unix://${socket}`, 'build', '--progress', 'quiet', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
    ...options.flatMap(([key, value]) => ['--opt', `${key}=${value}`]),
    ...(spec.noCache ? ['--no-cache'] : []),
    ...(spec.network === 'host' ? ['--allow', 'network.host'] : []),
    ...outputArguments(spec),
  ];
}

/** An output without a destination goes to buildctl's stdout; buildctl reads the value as a line of CSV. */
function outputArguments({ output, tags }: BuildSpec): string[] {
  if (output === 'none') return [];
  const name = tags.length > 0 && output !== 'tar' ? `,"name=${tags.join(',')}"` : '';
  return ['--output', output === 'push' ? `type=image${name},push=true` : `type=${output}${name}`];
}
