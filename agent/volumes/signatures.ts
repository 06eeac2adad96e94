/** A filesystem, table or container by the bytes it starts with. */
interface Signature {
  name: string;
  /** Offset in bytes from the device's start. */
  offset: number;
  bytes: string;
}

/**
 * What a device that is not ours most likely holds, from libblkid's probes and the formats' own documents. Only for the
 * sentence in an error: a device is refused for not being blank, whether its content has a name here or not.
 */
const signatures: readonly Signature[] = [
  { name: 'a LUKS container', offset: 0, bytes: 'LUKS\xba\xbe' },
  { name: 'an XFS filesystem', offset: 0, bytes: 'XFSB' },
  { name: 'a btrfs filesystem', offset: 0x10040, bytes: '_BHRfS_M' },
  { name: 'swap space', offset: 4086, bytes: 'SWAPSPACE2' },
  { name: 'a GPT partition table', offset: 512, bytes: 'EFI PART' },
  { name: 'a GPT partition table', offset: 4096, bytes: 'EFI PART' },
  { name: 'an LVM physical volume', offset: 512, bytes: 'LABELONE' },
  { name: 'an LVM physical volume', offset: 0, bytes: 'LABELONE' },
  { name: 'a RAID member', offset: 4096, bytes: '\xfc\x4e\x2b\xa9' },
  { name: 'a RAID member', offset: 0, bytes: '\xfc\x4e\x2b\xa9' },
  { name: 'a squashfs filesystem', offset: 0, bytes: 'hsqs' },
  { name: 'an EROFS filesystem', offset: 1024, bytes: '\xe2\xe1\xf5\xe0' },
  { name: 'an F2FS filesystem', offset: 1024, bytes: '\x10\x20\xf5\xf2' },
  { name: 'an NTFS filesystem', offset: 3, bytes: 'NTFS    ' },
  { name: 'an exFAT filesystem', offset: 3, bytes: 'EXFAT   ' },
  { name: 'a FAT filesystem', offset: 82, bytes: 'FAT32   ' },
  { name: 'a FAT filesystem', offset: 54, bytes: 'FAT1' },
  { name: 'an ISO 9660 filesystem', offset: 0x8001, bytes: 'CD001' },
  { name: 'a ZFS member', offset: 0x20000, bytes: '\x0c\xb1\xba\x00' },
  { name: 'a bcache device', offset: 4120, bytes: '\xc6\x85\x73\xf6\x4e\x1a\x45\xca' },
  { name: 'a qcow2 image', offset: 0, bytes: 'QFI\xfb' },
  { name: 'a VMDK image', offset: 0, bytes: 'KDMV' },
  { name: 'a gzip archive', offset: 0, bytes: '\x1f\x8b\x08' },
  { name: 'a zstd archive', offset: 0, bytes: '\x28\xb5\x2f\xfd' },
  { name: 'a tar archive', offset: 257, bytes: 'ustar' },
  { name: 'a buildvisor boot config', offset: 0, bytes: '# buildvisor config' },
  { name: 'an MBR partition table', offset: 510, bytes: '\x55\xaa' },
];

/** What the first bytes of a device show, as it reads after "holds"; `undefined` when they show nothing known. */
export function nameContent(head: Buffer): string | undefined {
  return signatures.find(({ offset, bytes }) => head.toString('latin1', offset, offset + bytes.length) === bytes)?.name;
}
