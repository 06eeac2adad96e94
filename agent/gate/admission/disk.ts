/** Whoever decides whether there is room on the cache volume for a solve. */
export interface Admission {
  /** Whether a solve may go at once. */
  readonly isOpen: boolean;
  /** Resolves when it may; rejects with the BuildvisorError of what it could not wait for, or of the signal. */
  enter(signal: AbortSignal): Promise<void>;
}

/** Lets every solve go at once. */
export const openAdmission: Admission = { isOpen: true, enter: () => Promise.resolve() };
