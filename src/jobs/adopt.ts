/**
 * An existing LUKS2 volume under KMS: KMS wraps its volume key, and a token and a MAC are added to its header. The data
 * is not touched.
 */

import { constants } from 'node:fs';
import { VolsealError, withPath } from '../errors.js';
import { CONVERSION, withConvertedCopy } from '../headers/converted-keyslots.js';
import { removeKeyslot } from '../headers/recovery.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { chooseKms, forNewKeys } from '../kms/shared/endpoint.js';
import { DATA_KEY_BYTES, DATA_KEY_LENGTHS } from '../limits.js';
import { type LogOptions, logged } from '../logging.js';
import { encodeHeader, intactHeader, type Luks2Header } from '../luks2/header.js';
import { nextHeader } from '../luks2/header-mac.js';
import { type KnownKeyslots, keyslotSha256 } from '../luks2/known-keyslots.js';
import { assertSupported, type DataSegment, type KeyDigest } from '../luks2/metadata.js';
import { areaDataBytes, keyslotObstacle, keyslotParameters } from '../luks2/passphrase-keyslot.js';
import { readHeader, writeHeader } from '../luks2/store.js';
import { TOKEN_TYPE, type UnsealedToken } from '../luks2/token.js';
import { native } from '../native.js';
import { NamedFile } from '../output/named-file.js';
import { refuseUnknownData, renewSamples } from '../volume/data-binding.js';
import { readHeaderArea } from '../volume/header-area.js';
import { describeContents, type VolumeInfo } from '../volume/info.js';
import { type KmsAccess, withAccess } from '../volume/unlock.js';
import { readPassphrase } from '../volume/unlock-keyslot.js';
import { contentsOf, dataIsMissing, type OpenFiles, openVolumeFiles } from '../volume/volume-file.js';
import { newVolumeId } from '../volume/volume-id.js';
import { throwIfAborted } from '../workers/abort.js';
import type { AdoptedKey, AdoptedKeyslot, AdoptTask } from '../workers/key-tasks.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import { checkVolumeId, DEFAULT_KEY } from './encrypt.js';
import { contextOf, recordedKms } from './new-volume-key.js';

/** Options of `adoptVolume`; one of the two files is needed. */
export interface AdoptOptions extends LogOptions {
  /** A file with a passphrase of one of the volume's keyslots; one line end at its end is not part of it. */
  passphraseFile?: string | undefined;
  /** A file with the volume key itself: 64 bytes, or 32 of AES-128. */
  volumeKeyFile?: string | undefined;
  /** Removes every keyslot once KMS opens the volume: afterwards nothing else does. Default: they stay. */
  removeKeyslots?: boolean | undefined;
  /**
   * The file with the header, where that is detached. LUKS2 itself does not say which data is a header's: the data must
   * have some structure under its key, a file system for example.
   */
  header?: string | undefined;
  /** With `header`: also data of which nothing shows that it is the header's, because it is empty or random. */
  anyData?: boolean | undefined;
  /** KMS key id, ARN, alias name or alias ARN. Default: `alias/aws/ebs`. */
  key?: string | undefined;
  /** As of `encryptImage`. */
  kms?: string | undefined;
  /** As of `encryptImage`. */
  home?: string | undefined;
  /** As of `encryptImage`. */
  kmsAccess?: KmsAccess | undefined;
  /** As of `encryptImage`. */
  volumeId?: string | undefined;
  /** Pairs beside `aws:ebs:id`. */
  encryptionContext?: EncryptionContext | undefined;
  /** Ends the call with `ERR_ABORTED`; the volume is as it was. */
  signal?: AbortSignal | undefined;
}

/** What `adoptVolume` made. */
export interface AdoptedVolume extends VolumeInfo {
  /** The keyslot whose passphrase opened the volume; null where the volume key did. */
  openedBy: string | null;
}

/**
 * Brings a LUKS2 volume of cryptsetup (aes-xts-plain64, one segment) under KMS. The volume key goes from
 * the keyslot or the file into the vault, and from there into the request to KMS (Encrypt), which is made in the addon;
 * what KMS gives back for it is compared before the header is written. The keyslot that opened the volume is listed
 * under the MAC as a passphrase, so that `passphraseFile` opens the volume from then on; the others stay foreign. One
 * with Argon2 stays foreign too: cryptsetup, where it is installed, converts a copy of it.
 *
 * @throws {VolsealError} `ERR_NOT_A_VOLUME` (LUKS1 too), `ERR_HEADER_UNSUPPORTED` integrity, another cipher,
 * several segments; `ERR_ARGUMENT` under KMS already, no room in the header; `ERR_KEYSLOT` the passphrase opens no
 * keyslot that volseal or an installed cryptsetup can open; `ERR_KEY_DIGEST` another volume's key; `ERR_KMS_*`,
 * `ERR_DATA_MISMATCH` nothing shows that the data is that of the detached header; `ERR_STATE_BUSY`, `ERR_IO`,
 * `ERR_ABORTED`
 */
export async function adoptVolume(path: string, options: AdoptOptions): Promise<AdoptedVolume> {
  return logged('adopt', { path }, options, (own) => adoptAndRemove(path, own));
}

async function adoptAndRemove(path: string, options: AdoptOptions): Promise<AdoptedVolume> {
  const { passphraseFile, volumeKeyFile } = options;
  if ((passphraseFile === undefined) === (volumeKeyFile === undefined))
    throw new VolsealError('ERR_ARGUMENT', 'a volume is adopted by a passphrase or by its volume key: name one file');
  const files = await openVolumeFiles(path, 'exclusive', options.header);
  let keyslots: string[];
  let adopted: AdoptedVolume;
  try {
    adopted = await adopt(files, path, options);
    keyslots = adopted.keyslotList.map(({ keyslot }) => keyslot);
  } catch (error) {
    throw withPath(error, path);
  } finally {
    await files.close();
  }
  if (options.removeKeyslots !== true || keyslots.length === 0) return adopted;
  const { kms, home, kmsAccess, header } = options;
  for (const keyslot of keyslots) await removeKeyslot(path, keyslot, { kms, home, kmsAccess, header });
  return { ...adopted, keyslots: 0, keyslotList: [] };
}

async function adopt(files: OpenFiles, path: string, options: AdoptOptions): Promise<AdoptedVolume> {
  const { header: headerFile, data } = files;
  const found = await readHeader(headerFile.handle, headerFile.path);
  const { header } = found;
  refuseAdopted(header, path);
  const { segment, digest } = assertSupported(header.metadata, headerFile.path);
  const imageBytes = dataBytes(files, segment);
  const endpoint = withAccess(forNewKeys(chooseKms(options)), options.kmsAccess);
  const volumeId = checkVolumeId(options.volumeId ?? newVolumeId());
  const context = contextOf({ volumeId, contextPairs: options.encryptionContext ?? {} });
  throwIfAborted(options.signal, 'the volume is as it was');
  await using pool = leasePool(options.logger);
  const key = { kms: endpoint, keyId: options.key ?? DEFAULT_KEY, context, grantTokens: options.kmsAccess?.grantTokens };
  const { key: volumeKey, keyArn, encryptedDataKey, keyslot } = await wrapped(files, header, digest, key, options, pool);
  try {
    const created = new Date().toISOString();
    // One that volseal does not open itself stays foreign.
    const known: KnownKeyslots =
      keyslot === undefined || keyslotObstacle(header.metadata.keyslots[keyslot]!) !== undefined
        ? {}
        : { [keyslot]: { kind: 'passphrase', created, sha256: keyslotSha256(header.metadata.keyslots[keyslot]!) } };
    const token: UnsealedToken = {
      keyId: keyArn,
      encryptedDataKey: Buffer.from(encryptedDataKey),
      encryptionContext: context,
      volumeId,
      kms: recordedKms(endpoint, keyArn),
      imageBytes,
      allocation: 'full',
      created,
      keyslots: known,
    };
    const next = nextHeader(volumeKey, header, token, headerFile.path);
    encodeHeader(next);
    const contents = contentsOf(intactHeader(next), files);
    // The header gets the size of this data, and samples of it.
    await refuseUnknownData({ ...files, ...contents }, volumeKey, options);
    throwIfAborted(options.signal, 'the volume is as it was');
    await writeHeader(headerFile.handle, next, headerFile.path, found.from);
    await renewSamples({ ...files, isBound: true, ...contents }, volumeKey);
    const info = await describeContents({ data, header: headerFile, ...contents });
    return { ...info, openedBy: keyslot ?? null };
  } finally {
    native.keyWipe(volumeKey);
  }
}

function refuseAdopted({ metadata }: Luks2Header, path: string): void {
  if (!Object.values(metadata.tokens).some(({ type }) => type === TOKEN_TYPE)) return;
  const message = `${path}: is under KMS already; volseal rewrap puts it under another key, and cryptsetup token remove takes the token out`;
  throw new VolsealError('ERR_ARGUMENT', message, { details: { path } });
}

/** Whole sectors from where the data begins to the end of the file, or as many as the header says. */
function dataBytes({ data, header }: OpenFiles, { offsetBytes, sizeBytes, sectorBytes }: DataSegment): number {
  if (header === data && offsetBytes === 0) throw dataIsMissing(data.path);
  if (sizeBytes !== 'dynamic') return sizeBytes;
  const bytes = Math.floor((data.sizeBytes() - offsetBytes) / sectorBytes) * sectorBytes;
  if (bytes > 0) return bytes;
  throw new VolsealError('ERR_VOLUME_SIZE', `${data.path}: has no data behind its header`, { details: { path: data.path } });
}

type KeyRequest = { readonly kms: ReturnType<typeof withAccess>; readonly keyId: string; readonly context: EncryptionContext };

async function wrapped(
  { data, header: headerFile }: OpenFiles,
  header: Luks2Header,
  digest: KeyDigest,
  request: KeyRequest & { readonly grantTokens: readonly string[] | undefined },
  { passphraseFile, volumeKeyFile, signal }: AdoptOptions,
  pool: PoolLease,
): Promise<AdoptedKey> {
  const secret =
    passphraseFile === undefined ? await readVolumeKey(volumeKeyFile!) : await readPassphrase('passphrase', passphraseFile, signal);
  try {
    const from =
      passphraseFile === undefined ? { volumeKey: secret } : { passphrase: secret, keyslots: await usableKeyslots(headerFile, header) };
    const ask = (from: AdoptTask['from']) => pool.run({ kind: 'adopt', ...request, digest, from }, signal);
    const adopted = await ask(from);
    if (adopted !== undefined) return adopted;
    if (passphraseFile !== undefined) {
      const { area } = await readHeaderArea(headerFile);
      const byCopy = hasOthers(header)
        ? await withConvertedCopy(area, passphraseFile, signal, async (copy) => {
            const { header: converted } = await readHeader(copy.handle, copy.path);
            return ask({ passphrase: secret, keyslots: await usableKeyslots(copy, converted) });
          })
        : undefined;
      if (byCopy !== undefined) return byCopy;
      throw noneOpens(header, data.path);
    }
    throw new VolsealError('ERR_KEY_DIGEST', `${data.path}: the key in ${volumeKeyFile} is not the key of this volume`, {
      details: { path: data.path, keyslots: Object.keys(header.metadata.keyslots).length },
    });
  } finally {
    native.keyWipe(secret);
  }
}

async function readVolumeKey(path: string) {
  await using file = await NamedFile.open(path, constants.O_RDONLY);
  const { size } = await file.stat();
  const length = DATA_KEY_LENGTHS.find((bytes) => BigInt(bytes) === size) ?? DATA_KEY_BYTES;
  try {
    return native.keyReadFile(file.fd, length);
  } catch (error) {
    throw withPath(error, path);
  }
}

async function usableKeyslots(headerFile: NamedFile, { metadata }: Luks2Header): Promise<AdoptedKeyslot[]> {
  const usable: AdoptedKeyslot[] = [];
  for (const [keyslot, object] of Object.entries(metadata.keyslots)) {
    const parameters = keyslotParameters(object);
    if (parameters === undefined) continue;
    const area = await headerFile.read(parameters.areaOffsetBytes, areaDataBytes(parameters));
    if (area.length === areaDataBytes(parameters)) usable.push({ keyslot, area, parameters });
  }
  return usable;
}

const hasOthers = ({ metadata }: Luks2Header): boolean =>
  Object.values(metadata.keyslots).some((object) => keyslotObstacle(object) !== undefined);

function noneOpens({ metadata }: Luks2Header, path: string): VolsealError {
  const entries = Object.entries(metadata.keyslots);
  const other = entries.flatMap(([name, object]) => {
    const obstacle = keyslotObstacle(object);
    return obstacle === undefined ? [] : [`${name} (${obstacle})`];
  });
  const why =
    other.length === 0
      ? ''
      : `; volseal cannot open the keyslots ${other.join(', ')} itself, and cryptsetup is not installed or does not open them by the first line of that file: cryptsetup luksConvertKey ${CONVERSION.join(' ')} ${path} makes one that volseal can open`;
  const message = `${path}: this passphrase opens none of its ${entries.length} keyslots${why}`;
  return new VolsealError('ERR_KEYSLOT', message, { details: { path, kind: 'passphrase', foreign: [] } });
}
