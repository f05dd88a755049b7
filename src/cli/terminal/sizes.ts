/** Printing of sizes and offsets. */
import prettyBytes from 'pretty-bytes';

/** "10 GiB": rounded, powers of 1024. */
export const humanSize = (bytes: number): string => prettyBytes(bytes, { binary: true });

/** "in 3.61 s, 2.77 GiB/s", of a whole image: in the unit that the progress bar has. */
export const pace = (bytes: number, seconds: number): string => `in ${seconds.toFixed(2)} s, ${humanSize(bytes / seconds)}/s`;

/** "10737418240 bytes (10 GiB)". */
export const exactSize = (bytes: number): string => (bytes < 1024 ? `${bytes} bytes` : `${bytes} bytes (${humanSize(bytes)})`);
