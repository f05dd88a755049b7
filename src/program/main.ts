#!/usr/bin/env node
/** The program `volseal`. */
import { loadBundle } from './load.js';

loadBundle('program')
  .main()
  .catch((error: { code?: string; message: string }) => {
    // The command line, which reports every other failure, needs the addon itself.
    if (error.code !== 'ERR_ADDON') throw error;
    process.stderr.write(`volseal: ${error.message}\n`);
    process.exit(4);
  });
