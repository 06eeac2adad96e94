/** A TOML table; what is `undefined` is not written. */
export type Toml = { [key: string]: TomlValue };
/** A value in a {@link Toml}. */
export type TomlValue = string | number | boolean | TomlValue[] | Toml | undefined;

/** Tables are merged key by key; anything else is replaced. */
export function merge(base: Toml, over: Toml): Toml {
  const merged: Toml = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const under = merged[key];
    merged[key] = isTable(under) && isTable(value) ? merge(under, value) : value;
  }
  return merged;
}

function isTable(value: TomlValue): value is Toml {
  return typeof value === 'object' && !Array.isArray(value);
}

/** Leaves out what is not set. An empty table is not nothing to buildkitd: it takes the place of a default. */
export function compact(table: Toml): Toml {
  return Object.fromEntries(
    Object.entries(table)
      .map(([key, value]): [string, TomlValue] => [key, clean(value)])
      .filter(([, value]) => value !== undefined && !(isTable(value) && Object.keys(value).length === 0)),
  );
}

function clean(value: TomlValue): TomlValue {
  if (Array.isArray(value)) return value.map(clean);
  return isTable(value) ? compact(value) : value;
}
