/** The part of an ext4 superblock we decide by (kernel: Documentation/filesystems/ext4/super.rst). */
export interface Superblock {
  /** Bytes of the filesystem, as it believes. */
  sizeBytes: number;
  blockBytes: number;
  /** Its ext4 label, at most 16 characters. */
  label: string;
  /** Unmounted in order, no error recorded, no orphan list, no journal to replay: e2fsck -p would do nothing. */
  clean: boolean;
  /** Errors the kernel has found on it since its last full check. */
  errors: number;
  /** Mounts since then. */
  mounts: number;
  /** What about it no volume of ours has, so that the kernel must not be let near it; undefined when nothing. */
  flaw: string | undefined;
}

/** Offset of the superblock on the device, in bytes. */
export const superblockOffset = 1024;
/** Its size in bytes. */
export const superblockSize = 1024;

const magic = 0xef53;
const state = { valid: 1, error: 2, orphans: 4 };
const needsRecovery = 0x4;
const is64Bit = 0x80;
const blockSize = 4096;
/**
 * Features a filesystem of ours can have: those mke2fs sets by default, those of its latest versions, what the kernel sets while
 * in use, and what growing may add. Others (inline data, encryption, another device's journal…) are code of the kernel that
 * we need not expose.
 */
const features = {
  // has_journal, ext_attr, resize_inode, dir_index, fast_commit, orphan_file
  compat: 0x4 | 0x8 | 0x10 | 0x20 | 0x400 | 0x1000,
  // filetype, needs_recovery, meta_bg, extents, 64bit, flex_bg, metadata_csum_seed
  incompat: 0x2 | needsRecovery | 0x10 | 0x40 | is64Bit | 0x200 | 0x2000,
  // sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum, orphan_present
  readOnly: 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400 | 0x10000,
} as const;
const metadataChecksums = 0x400;
/** Offset of the superblock's checksum, the last of its fields: crc32c, without the final inversion. */
const checksumOffset = 0x3fc;

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
    flaw: findFlaw(bytes, blockBytes),
    errors: bytes.readUInt32LE(0x194),
    mounts: bytes.readUInt16LE(0x34),
    clean: (flags & (state.valid | state.error | state.orphans)) === state.valid && (incompat & needsRecovery) === 0,
  };
}

function findFlaw(bytes: Buffer, blockBytes: number): string | undefined {
  const [compat, incompat, readOnly] = [0x5c, 0x60, 0x64].map((offset) => bytes.readUInt32LE(offset));
  if (((readOnly ?? 0) & metadataChecksums) === 0) return 'it has no checksums';
  if (bytes.readUInt32LE(checksumOffset) !== crc32c(bytes.subarray(0, checksumOffset))) return 'its checksum is wrong';
  if (blockBytes !== blockSize) return `its blocks have ${blockBytes} bytes`;
  const unknown = [
    ['compat', (compat ?? 0) & ~features.compat],
    ['incompat', (incompat ?? 0) & ~features.incompat],
    ['ro_compat', (readOnly ?? 0) & ~features.readOnly],
  ] as const;
  const first = unknown.find(([, bits]) => bits !== 0);
  return first && `it has features of no volume of ours (${first[0]} 0x${(first[1] >>> 0).toString(16)})`;
}

/** CRC-32C (Castagnoli, reflected) as ext4 uses it: begun with all ones, not inverted at the end. */
export function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return crc >>> 0;
}
