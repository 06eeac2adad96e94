import { fromBusybox, makeContext } from '../../test/native/buildkitd.ts';

/** Two builds at a time, and a machine that goes off when nobody is left: the last check. */
export const clientsConfig = `# buildvisor config 1
[machine]
idle-timeout = "15s"
[buildkit]
max-builds = 2
`;

/** A context of three steps of a third of a second each, new for each SALT. @returns its folder, in `dir` */
export function clientsContext(dir: string): Promise<string> {
  const step = (number: number): string => `RUN echo $SALT-${number} > /${number}; exec busybox sleep 0.3\n`;
  return makeContext(dir, `${fromBusybox}ARG SALT\n${[1, 2, 3].map(step).join('')}`);
}
