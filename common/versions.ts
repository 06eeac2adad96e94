/** Versions that are known without asking; a test compares them with `package.json` and `rootfs/go.mod`. */

/** Our own. */
export const buildvisorVersion = '0.1.0';
/** Of the BuildKit that the guest image carries. */
export const buildkitVersion = 'v0.33.1';
