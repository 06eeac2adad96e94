import { writeBytes, writeNumber, writeString } from '../../../common/protobuf.ts';

/**
 * The last message of a Status that buildkitd gave up because its next message was over its own limit of 16 MiB: each lint warning has
 * the whole Dockerfile in it (solver/pb/ops.proto, SourceInfo). A client would call the whole build off for that; so its Status ends in
 * order, and a step that says so is the last it sees of the progress.
 */
export function progressEnds(): Buffer {
  const now = timestamp(Date.now());
  // moby.buildkit.v1.Vertex: digest, name, started, completed (api/services/control/control.proto).
  const vertex = Buffer.concat([writeString(1, digest), writeString(3, name), writeBytes(5, now), writeBytes(6, now)]);
  return writeBytes(1, vertex);
}

const name =
  '[buildvisor] the progress ends here, and the build goes on: its warnings are too large for BuildKit; ' +
  '"# check=skip=all" in the Dockerfile\'s first line turns them off';
/** No step's: it is the hash of nothing. */
const digest = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

function timestamp(atMs: number): Buffer {
  return Buffer.concat([writeNumber(1, Math.floor(atMs / 1000)), writeNumber(2, (atMs % 1000) * 1e6)]);
}
