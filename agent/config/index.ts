/** The boot config: what of this folder the rest of the agent, and the host, may use. */
export type { Config } from './config.ts';
export { type GcPolicy, gcPolicies } from './gc-policies.ts';
export { parseConfig } from './parse.ts';
export { type BuildkitdFacts, certificateFiles, renderBuildkitdToml } from './render-buildkitd.ts';
export { maxConfigBytes, renderConfig } from './render-config.ts';
export { type Watermarks, watermarksOf } from './watermarks.ts';
