/** Numbers and names both ends of the wire must agree on. */

/** Version of `proto/buildvisor/v1` and of its meaning. A client with another number is refused. */
export const protocolVersion = 1;
/** Metadata key that carries {@link protocolVersion}. */
export const protocolKey = 'buildvisor-protocol';
/** Trailer that carries a serialised `buildvisor.v1.Error`. */
export const errorKey = 'buildvisor-error-bin';
/** vsock port of our own API. */
export const apiPort = 1024;
/** vsock port of the BuildKit API, through the gate. */
export const gatePort = 1025;
/** No vsock write of the guest is larger, in bytes: some VMMs drop the second descriptor of a split one. */
export const maxVsockWrite = 32 * 1024;
/** The longest `drain-limit`, in milliseconds. */
export const longestDrainMs = 60_000;
/** How long an orderly stop may take, in milliseconds: the longest drain, BuildKit's end, and a full disk's dirty pages. */
export const stopLimitMs = longestDrainMs + 90_000;
/** First words of the guest console's last line; JSON follows: `{"code":…,"reason":…}`. */
export const consoleEndMark = 'BUILDVISOR END';
/** A line of the guest's console: its ports are open. Until then a host that knocks only keeps the booting guest busy. */
export const consoleListenMark = 'BUILDVISOR LISTENING';
