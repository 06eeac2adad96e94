/** Most layers that can be mounted one on another: OVL_MAX_STACK of Linux' fs/overlayfs/params.h. */
export const layerLimit = 500;
/** A Dockerfile with fewer bytes cannot pass the limit: so many lines of `RUN x`. */
export const leastDeepBytes = (layerLimit + 1) * 'RUN x\n'.length;
