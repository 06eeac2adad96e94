/** Bounds of all journals together, in bytes. */
export interface RoomLimits {
  /** On disk. */
  disk: number;
  /** Waiting to be written: a disk that slow gets no more statuses. */
  unwritten: number;
}

/** From this share of the disk's bound on the oldest builds are forgotten, until the second share is reached. */
const shares = { forgetAbove: 0.9, forgetTo: 0.8 };

/** What all journals of a VM take together, so that the scratch volume is never filled by them. */
export class Room {
  readonly #limits: RoomLimits;
  #onDisk = 0;
  #unwritten = 0;
  /** Called when old builds should be forgotten. */
  onTight: () => void = () => undefined;

  constructor(limits: RoomLimits) {
    this.#limits = limits;
  }

  /** Bytes on disk. */
  get onDisk(): number {
    return this.#onDisk;
  }

  /** Whether builds are to be forgotten until there is room again. */
  get isTight(): boolean {
    return this.#onDisk > shares.forgetAbove * this.#limits.disk;
  }

  /** Bytes to be given back by forgetting builds, once it is tight. */
  get excess(): number {
    return Math.max(0, this.#onDisk - shares.forgetTo * this.#limits.disk);
  }

  /** Whether there is room for a status; results and other small events are written in any case. */
  get hasRoom(): boolean {
    return this.#onDisk + this.#unwritten < this.#limits.disk && this.#unwritten < this.#limits.unwritten;
  }

  /** Counts bytes that wait to be written, or no longer do. */
  queued(bytes: number): void {
    this.#unwritten += bytes;
  }

  /** Counts bytes that are on disk, or no longer are. */
  stored(bytes: number): void {
    this.#onDisk += bytes;
    if (bytes > 0 && this.isTight) this.onTight();
  }
}
