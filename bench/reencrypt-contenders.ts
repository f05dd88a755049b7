/** Who gives existing volumes new keys: volseal, into a new volume and in place, and `cryptsetup reencrypt`. */
import { copyFileSync, existsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ImageContender, inScene, parallelDd, SLOW_ROUNDS, volseal, volsealSeconds } from './image-contenders.js';
import { type ImageFiles, keptPath, keptVolume } from './image-files.js';
import { CRYPTSETUP_REENCRYPT, ENCRYPT, IN_PLACE_DD, REENCRYPT_IN_PLACE, REENCRYPT_OUT } from './image-report.js';
import { timed } from './timed-process.js';

const MIB = 1024 * 1024;
/** Of LUKS2 as cryptsetup makes it. */
const CRYPTSETUP_OFFSET_BYTES = 16 * MIB;

/** Into new volumes beside `encrypt`; in place beside what the disk gives and `cryptsetup reencrypt`. */
export function reencryptions(files: ImageFiles, sectorSizes: readonly number[]): ImageContender[] {
  return [
    ...sectorSizes.flatMap((sectorBytes) => intoNewVolume(files, sectorBytes)),
    plainDisk(files),
    ...sectorSizes.flatMap((sectorBytes) => [volsealInPlace(files, sectorBytes), cryptsetupInPlace(files, sectorBytes)]),
  ];
}

function intoNewVolume(files: ImageFiles, sectorBytes: number): ImageContender[] {
  const { directory, image } = files;
  const target = join(directory, 'new-volume');
  const make = inScene(files, 'newKey');
  const kept = { sectorBytes, isSparse: false };
  const own = { sectorBytes, target, dataSecondsOf: volsealSeconds };
  return [
    make(ENCRYPT, volseal('encrypt', image, target, '--sector-size', String(sectorBytes)), own),
    make(REENCRYPT_OUT, volseal('reencrypt', keptPath(directory, kept), '--out', target), {
      ...own,
      dataSecondsOf: ({ stdout }) => (JSON.parse(stdout) as { volumes: [{ dataSeconds: number }] }).volumes[0].dataSeconds,
      source: keptPath(directory, kept),
      prepare: () => keptVolume(files, kept),
    }),
  ];
}

/** The same bytes read and written, without a cipher and without a journal. */
function plainDisk(files: ImageFiles): ImageContender {
  const target = join(files.directory, 'copy');
  return inScene(files, 'inPlace')(IN_PLACE_DD, parallelDd(target, target, files.imageBytes), {
    ...{ target, keepsTarget: true, source: target },
    prepare: async () => void (existsSync(target) || copyFileSync(files.image, target)),
  });
}

function volsealInPlace(files: ImageFiles, sectorBytes: number): ImageContender {
  const target = join(files.directory, `in-place-${sectorBytes}`);
  const kept = { sectorBytes, isSparse: false };
  return inScene(files, 'inPlace')(REENCRYPT_IN_PLACE, volseal('reencrypt', target), {
    ...{ sectorBytes, target, keepsTarget: true, source: target },
    dataSecondsOf: ({ stdout }) => (JSON.parse(stdout) as { volumes: [{ dataSeconds: number }] }).volumes[0].dataSeconds,
    async prepare() {
      if (existsSync(target)) return;
      await keptVolume(files, kept);
      copyFileSync(keptPath(files.directory, kept), target);
    },
  });
}

/** With the resilience that it has where nothing is said. */
function cryptsetupInPlace(files: ImageFiles, sectorBytes: number): ImageContender {
  const { directory, image, imageBytes, surroundings } = files;
  const [target, passphrase] = [join(directory, `luks-${sectorBytes}`), join(directory, 'passphrase')];
  // A derivation of next to no cost: what is measured is the moving of data.
  const common = ['--batch-mode', '--key-file', passphrase, '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
  const words = ['cryptsetup', 'reencrypt', ...common, '--resilience', 'checksum', '--force-offline-reencrypt', target];
  return inScene(files, 'inPlace')(CRYPTSETUP_REENCRYPT, words, {
    ...{ sectorBytes, target, keepsTarget: true, source: target, mostRounds: SLOW_ROUNDS },
    async prepare() {
      if (existsSync(target)) return;
      writeFileSync(passphrase, 'benchmark');
      copyFileSync(image, target);
      truncateSync(target, imageBytes + CRYPTSETUP_OFFSET_BYTES);
      const cipher = ['--cipher', 'aes-xts-plain64', '--key-size', '512', '--sector-size', String(sectorBytes)];
      await timed(['cryptsetup', 'luksFormat', '--type', 'luks2', ...common, ...cipher, target], surroundings);
    },
  });
}
