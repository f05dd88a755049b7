// The name of the prebuilt addon for this machine, below prebuilds/. src/package-files.ts says the same; this works
// without dist/.
import { closeSync, openSync, readSync } from 'node:fs';

/** A Node for musl names musl's loader near the beginning of its executable. */
function isMusl() {
  try {
    const beginning = Buffer.alloc(4096);
    const executable = openSync(process.execPath, 'r');
    readSync(executable, beginning);
    closeSync(executable);
    return beginning.includes('/ld-musl-');
  } catch {
    return false; // an executable that nobody may read
  }
}

export const prebuiltName = () => `${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}/volseal.node`;
