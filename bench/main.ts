/**
 * The benchmarks of a clone: `npm run bench -- kernels`, `image`, `reencrypt`, `kms`, `attach`, `fleet`, `stores`.
 * Each prints what it measured.
 */
import { Command } from 'commander';
import { attachCommand } from './attach.js';
import { fleetCommand } from './fleet.js';
import { imageCommand } from './image.js';
import { kernelsCommand } from './kernels.js';
import { kmsCommand } from './kms.js';
import { reencryptCommand } from './reencrypt.js';
import { storesCommand } from './stores.js';

await new Command('bench')
  .description('benchmarks; docs/BENCHMARKS.md says how they measure')
  .addCommand(kernelsCommand())
  .addCommand(imageCommand())
  .addCommand(reencryptCommand())
  .addCommand(kmsCommand())
  .addCommand(attachCommand())
  .addCommand(fleetCommand())
  .addCommand(storesCommand())
  .parseAsync();
