import { BuildvisorError } from '../../common/errors.ts';
import { parseScope } from '../../common/scope.ts';
import { invalid, parseConfig, readToml } from './parse.ts';
import { configHeader } from './schema.ts';

/** The config drive holds no more, in bytes. */
export const maxConfigBytes = 1024 * 1024;

/** What a host puts into a boot config. */
export interface ConfigInput {
  /** The VM's scope. */
  scope: string;
  /** The user's own config; its first line and `scope` may be left out. */
  text?: string | undefined;
  /** What the user's config is called in errors, such as its path. */
  source?: string | undefined;
}

/**
 * The boot config of a VM: the user's text, comments and all, with the header and the scope put in where they are missing.
 * @throws BuildvisorError `SCOPE_INVALID`; `SCOPE_MISMATCH` when the text is of another scope; `CONFIG_INVALID`
 */
export function renderConfig({ scope, text = '', source = 'given' }: ConfigInput): string {
  const own = parseScope(scope);
  if (text.includes('\0')) throw invalid(source, [{ path: '', message: 'is not text: it has NUL bytes' }]);
  const body = text.replace(/^\uFEFF/, '');
  const [first = ''] = body.split('\n', 1);
  const headed = /^# buildvisor config\b/.test(first);
  const given = readToml(body, source).scope;
  if (typeof given === 'string' && given !== own)
    throw new BuildvisorError('SCOPE_MISMATCH', `The config ${source} is of scope "${given}", not of "${own}"`, {
      hint: 'Remove `scope` from the config, or ask for the scope it names.',
      facts: { source, scope: own, configScope: given },
    });
  const rest = headed ? body.slice(first.length + 1) : body;
  const added = given === undefined ? [`scope = ${JSON.stringify(own)}`] : [];
  const lead = [headed ? first.replace(/\r$/, '') : configHeader, ...added];
  const rendered = `${lead.join('\n')}\n${rest.endsWith('\n') || rest === '' ? rest : `${rest}\n`}`;
  if (Buffer.byteLength(rendered) > maxConfigBytes)
    throw invalid(source, [{ path: '', message: `is larger than ${maxConfigBytes} bytes` }]);
  parseConfig(rendered, source, lead.length - (headed ? 1 : 0));
  return rendered;
}
