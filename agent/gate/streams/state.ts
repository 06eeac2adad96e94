/**
 * Where a call stands: `held` back from buildkitd, `open`, read `alone` by the gate as its client has gone, answered by the gate
 * and `parting` as the client's window is too small for the answer, or `closed`: what comes of it is dropped.
 */
export type State = 'held' | 'open' | 'alone' | 'parting' | 'closed';
