/** The part of an ext4 superblock we decide by (kernel: Documentation/filesystems/ext4/super.rst). */
export interface Superblock {
  /** Bytes of the filesystem, as it believes. */
  sizeBytes: number;
  blockBytes: number;
  /** Its ext4 label, at most 16 characters. */
  label: string;
  /** Unmounted in order, no error recorded, no orphan list, no journal to replay: e2fsck -p would do nothing. */
  clean: boolean;
}

/** Offset of the superblock on the device, in bytes. */
export const superblockOffset = 1024;
/** Its size in bytes. */
export const superblockSize = 1024;

const magic = 0xef53;
const state = { valid: 1, error: 2, orphans: 4 };
const needsRecovery = 0x4;
const is64Bit = 0x80;

/** The superblock in these 1024 bytes, or `undefined` where there is no ext2, ext3 or ext4. */
export function parseSuperblock(bytes: Buffer): Superblock | undefined {
  if (bytes.length < superblockSize || bytes.readUInt16LE(0x38) !== magic) return undefined;
  const incompat = bytes.readUInt32LE(0x60);
  const high = incompat & is64Bit ? bytes.readUInt32LE(0x150) : 0;
  const blockBytes = 1024 * 2 ** Math.min(bytes.readUInt32LE(0x18), 6);
  const flags = bytes.readUInt16LE(0x3a);
  return {
    sizeBytes: (high * 2 ** 32 + bytes.readUInt32LE(0x04)) * blockBytes,
    blockBytes,
    label: bytes.toString('latin1', 0x78, 0x88).replace(/\0.*$/s, ''),
    clean: (flags & (state.valid | state.error | state.orphans)) === state.valid && (incompat & needsRecovery) === 0,
  };
}
