/** Volumes that cryptsetup makes, with a key and a passphrase of ours. */
import { randomBytes } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { native } from '../../src/native.js';
import { importKey } from '../vault/test-keys.js';
import type { Sandbox } from '../volume/sandbox.js';
import { runTool } from './tools.js';

const MIB = 1024 * 1024;

/** PBKDF2 that costs nothing. */
export const PBKDF2 = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];

export interface Foreign {
  readonly volume: string;
  /** The file with the passphrase. */
  readonly pass: string;
  readonly image: Buffer;
  /** The volume key. */
  readonly key: Buffer;
}

export interface ForeignOptions {
  readonly type?: 'luks1' | 'luks2';
  /** 64, or 32 for AES-128. */
  readonly keyBytes?: number;
}

/** A volume `old.img` of an image `image.raw` (`fill` writes it), as `cryptsetup luksFormat` makes it. */
export function foreign(
  box: Sandbox,
  options: readonly string[] = [],
  format: readonly string[] = PBKDF2,
  { type = 'luks2', keyBytes = 64 }: ForeignOptions = {},
): Foreign {
  const [volume, pass, vk] = [box.path('old.img'), box.path('pass'), box.path('vk')];
  const image = box.image('image.raw', 4 * MIB);
  const key = randomBytes(keyBytes);
  writeFileSync(vk, key);
  writeFileSync(pass, 'a passphrase of ours');
  writeFileSync(volume, '');
  truncateSync(volume, 20 * MIB);
  const common = ['luksFormat', '--batch-mode', '--type', type, '--volume-key-file', vk, '--key-size', String(8 * keyBytes)];
  runTool('cryptsetup', [...common, ...format, ...options, volume, pass]);
  return { volume, pass, image, key };
}

/** Where the data of a volume begins, and its sectors. */
export interface Place {
  readonly offsetBytes: number;
  readonly sectorBytes: number;
}

function placeIn(volume: string): Place {
  const { segments } = JSON.parse(runTool('cryptsetup', ['luksDump', '--dump-json-metadata', volume])) as {
    segments: { 0: { offset: string; sector_size: number } };
  };
  return { offsetBytes: Number(segments[0].offset), sectorBytes: segments[0].sector_size };
}

/** Writes the image into it as the kernel would. Without `place`, as its header says, and the volume ends with it. */
export async function fill({ volume, image, key }: Omit<Foreign, 'pass'>, place?: Place): Promise<void> {
  const { offsetBytes, sectorBytes } = place ?? placeIn(volume);
  if (place === undefined) truncateSync(volume, offsetBytes + image.length);
  const handle = importKey(key);
  native.xtsPrepare(handle);
  const file = await open(volume, 'r+');
  const device = native.deviceOpen({
    regions: [{ fd: file.fd, key: handle, offsetBytes, sizeBytes: image.length }],
    sectorBytes,
    writable: true,
    sparse: false,
  });
  await native.deviceWrite(device, 0, image);
  await native.deviceFlush(device);
  native.deviceClose(device);
  native.keyWipe(handle);
  await file.close();
}
