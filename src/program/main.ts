#!/usr/bin/env node
/** The program `volseal`. */
import { loadBundle } from './load.js';

void loadBundle().main();
