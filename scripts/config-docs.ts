/**
 * Writes `docs/config.md`, the reference of the boot config, from its schema. With `--check` it only tells, by its exit code,
 * whether the file is as the schema says.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type * as z from 'zod/mini';
import { type Notes, notes } from '../agent/config/fields.ts';
import { unwrap } from '../agent/config/problems.ts';
import { configHeader, schema } from '../agent/config/schema.ts';

const file = join(import.meta.dirname, '../docs/config.md');

const intro = `# Boot config

<!-- Written by \`node scripts/config-docs.ts\` from agent/config/schema.ts: change the schema, not this file. -->

One TOML file tells a builder VM what it is. The host hands it over on a small read-only drive (serial \`bv-config\`): its bytes,
then a NUL; there is no filesystem on it. \`buildvisor up --config FILE\` takes a file of yours: its first line and \`scope\` may
be left out, the host puts them in.

The whole file is checked before anything starts. An unknown key, a wrong type, an impossible value, two keys that contradict
each other, or a key this version cannot honour yet: the VM does not boot, and one error names them all, each with its line and
what would be right. No key is ever ignored.

\`\`\`toml
${configHeader}
scope = "acme/app/main"

[machine]
idle-timeout = "30m"

[buildkit]
entitlements = ["network.host"]

[gc]
max = "200GB"
min-free = "10%"

[registry."docker.io"]
mirrors = ["mirror.example.com:5000/hub"]

[registry."mirror.example.com:5000"]
http = true
\`\`\`

- **Durations**: \`"250ms"\`, \`"90s"\`, \`"10m"\`, \`"1h30m"\`, \`"7d"\`, at most ten years.
- **Sizes**: \`"20GB"\` (10⁹), \`"20GiB"\` (2³⁰), or a number of bytes. Where a part of a volume is meant, \`"30%"\` too.
`;

const gcNotes = `Sizes in a rule or preset are compared with the *whole* cache, whatever the filter: a rule takes records that it matches, the
least used first, until the whole cache fits. Rules run in order; what is in use by a build is never taken. \`buildvisor info\`
shows what is in force, in bytes.`;

interface Section {
  heading: string;
  text: string;
  rows: string[];
  /** Keys of a foreign schema that are not to be set here, by reason. */
  refused: Map<string, string[]>;
}

/** The reference, as Markdown. */
export function configReference(): string {
  const sections: Section[] = [];
  collect(schema, [], { takes: '', about: 'Before the first table:' }, sections);
  const parts = sections.filter(({ rows, refused }) => rows.length + refused.size > 0).map(formatSection);
  return `${intro}\n${parts.join('\n')}`;
}

function formatSection({ heading, text, rows, refused }: Section): string {
  const paragraphs = [text];
  if (heading === '[gc]') paragraphs.push(gcNotes);
  if (rows.length > 0) paragraphs.push(['| key | takes | default | |', '|---|---|---|---|', ...rows].join('\n'));
  const reasons = [...refused].map(([why, keys]) => `- ${keys.map((key) => `\`${key}\``).join(', ')}: ${why}.`);
  if (reasons.length > 0) paragraphs.push('Refused here, with the reason:', reasons.join('\n'));
  return `## ${heading === '' ? 'Top level' : `\`${heading}\``}\n\n${paragraphs.join('\n\n')}\n`;
}

/** Adds the section of an object's own keys, then those of the tables below it. */
function collect(node: z.core.$ZodType, path: string[], { about }: Notes, sections: Section[], lists = false): void {
  const { def } = (node as z.core.$ZodObject)._zod;
  const name = path.join('.');
  const section: Section = {
    heading: name && (lists ? `[[${name}]]` : `[${name}]`),
    text: about,
    rows: [],
    refused: new Map(),
  };
  sections.push(section);
  for (const [key, value] of Object.entries(def.shape)) {
    const inner = unwrap(value as z.core.$ZodType);
    const { def: innerDef } = (inner as z.core.$ZodTypes)._zod;
    const what = notes.get(inner) ?? { takes: '', about: '' };
    const below = [...path, /^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key)];
    if (innerDef.type === 'object') collect(inner, below, what, sections);
    else if (innerDef.type === 'record')
      collectNested(innerDef.valueType, [...below, '"HOST"'], section, key, what, sections);
    else if (innerDef.type === 'array') collectNested(innerDef.element, below, section, key, what, sections, true);
    else if (what.takes === 'nothing')
      section.refused.set(what.about, [...(section.refused.get(what.about) ?? []), key]);
    else section.rows.push(row(key, value as z.core.$ZodType, what));
  }
}

/** A record or list: a section of its own when it holds tables, else a row. */
function collectNested(
  item: z.core.$ZodType,
  path: string[],
  section: Section,
  key: string,
  what: Notes,
  sections: Section[],
  list = false,
): void {
  const inner = unwrap(item);
  const tables = (inner as z.core.$ZodTypes)._zod.def.type === 'object';
  if (tables) collect(inner, path, notes.get(inner) ?? what, sections, list);
  else section.rows.push(row(key, undefined, what));
}

function row(key: string, field: z.core.$ZodType | undefined, { takes, about, fallback }: Notes): string {
  const needed = field !== undefined && (field as z.core.$ZodTypes)._zod.optin === undefined;
  const cells = [`\`${key}\``, takes, fallback ? `\`${fallback}\`` : needed ? 'required' : '', about];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

if (import.meta.main) {
  const current = await readFile(file, 'utf8').catch(() => '');
  if (!process.argv.includes('--check')) await writeFile(file, configReference());
  else if (current !== configReference()) {
    console.error('docs/config.md is not what the schema says: run node scripts/config-docs.ts');
    process.exitCode = 1;
  }
}
