/** One of several processes that encrypt images without an engine: DIRECTORY NAME PART PARTS IMAGES. */
import { join } from 'node:path';
import { encryptImage } from '../src/index.js';

const [directory = '', name = '', part = '', parts = '', images = ''] = process.argv.slice(2);
for (let index = Number(part); index < Number(images); index += Number(parts))
  await encryptImage(join(directory, 'images', `${index}.raw`), join(directory, name, `${index}.vol`));
