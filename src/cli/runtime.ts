/** Where this user's attached volumes are written down. */
import { runtimeDirectory } from '../attached/runtime-directory.js';

/** As `runtimeDirectory`, with `$XDG_RUNTIME_DIR`. @throws {VolsealError} `ERR_IO` */
export const ownRuntimeDirectory = (): string => runtimeDirectory(process.env.XDG_RUNTIME_DIR);
