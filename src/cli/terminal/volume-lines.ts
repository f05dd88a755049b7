/** Facts about a volume, as lines of text. */

import type { UpdatedVolume } from '../../jobs/stored/update-volume.js';
import type { KeyslotInfo } from '../../luks2/known-keyslots.js';
import type { ForeignInfo, HeaderInfo } from '../../volume/any-info.js';
import type { VolumeInfo } from '../../volume/info.js';
import { alignedRows, contextLines } from './output.js';
import { exactSize, pace } from './sizes.js';

type Row = readonly [label: string, value: string];

/** The result of making a volume. */
export function newVolumeLines(done: string, info: VolumeInfo): string[] {
  return [
    done,
    ...alignedRows([['volume id', info.volumeId], ...sizeRows(info), allocationRow(info), ['kms key', info.keyId], ...contextRows(info)]),
  ];
}

/** The result of bringing a volume to another snapshot. */
export function updatedVolumeLines(snapshot: string, { path, volumeId, changedBytes, dataSeconds }: UpdatedVolume): string[] {
  if (changedBytes === 0) return [`${path} (${volumeId}) is the image of ${snapshot}; nothing had to be written`];
  return [`${path} (${volumeId}) is the image of ${snapshot} now: ${exactSize(changedBytes)} changed ${pace(changedBytes, dataSeconds)}`];
}

/** Everything that the header says, with a reminder that nothing of it is proved. */
export function infoLines(info: VolumeInfo | HeaderInfo | ForeignInfo): string[] {
  if ('notAttached' in info) return foreignLines(info);
  const { path, header } = info;
  const headerOnly = 'headerOnly' in info;
  const rows: Row[] = [
    ...(headerOnly ? [] : [['volume', path] as const]),
    ...(header === null ? [] : [['header', header] as const]),
    ['volume id', info.volumeId],
    ['uuid', info.uuid],
    ...sizeRows(info),
    headerOnly ? ['allocation', info.allocation] : allocationRow(info),
    ['cipher', `${cipherText(info)}, ${info.sectorBytes}-byte sectors, data from byte ${info.dataOffsetBytes}`],
    ...snapshotRows(info),
    ['kms', info.kms],
    ['kms key', info.keyId],
    ...contextRows(info),
    ['encrypted key', info.encryptedDataKey],
    ['created', info.created],
    copiesRow(info),
    ...keyslotRows(info),
  ];
  return [...alignedRows(rows), '', ...(headerOnly ? [HEADER_ONLY] : []), NOT_PROVED];
}

const NOT_PROVED = 'Only the header was read; nothing is proved yet. To check it with the key: volseal verify';
const HEADER_ONLY =
  'The file has a header and no data: a detached header, or a backup of one. Other commands take it as --header FILE beside the data.';

/** AES-XTS takes two keys in one: 64 bytes are two of AES-256. */
const cipherText = ({ cipher, keyBytes }: VolumeInfo): string =>
  keyBytes === null ? cipher : `${cipher} with AES-${keyBytes * 4} (a key of ${keyBytes} bytes)`;

const copiesRow = ({ headerCopies: { primary, secondary } }: Pick<VolumeInfo, 'headerCopies'>): Row => [
  'header copies',
  primary === secondary ? `both ${primary}` : `first ${primary}, second ${secondary}`,
];

/** A LUKS2 volume that volseal does not attach. */
function foreignLines(info: ForeignInfo): string[] {
  const { path, uuid, label, requirements, segments, keyslots } = info;
  const rows: Row[] = [
    ['header', path],
    ['uuid', uuid],
    ...(label === '' ? [] : [['label', label] as const]),
    ...segments.map(({ segment, type, cipher, sectorBytes, offsetBytes, sizeBytes, integrity }): Row => {
      const words = [
        cipher ?? type,
        ...(sectorBytes === null ? [] : [`${sectorBytes}-byte sectors`]),
        `${sizeBytes === 'dynamic' ? 'data' : `${sizeBytes} bytes`} from byte ${offsetBytes}`,
        ...(integrity ? ['authenticated'] : []),
      ];
      return [`segment ${segment}`, words.join(', ')];
    }),
    ...keyslots.map(({ keyslot, type, keyBytes, kdf }): Row => {
      return [`keyslot ${keyslot}`, `${type}, a key of ${keyBytes} bytes${kdf === null ? '' : `, ${kdf}`}`];
    }),
    ...(keyslots.length === 0 ? [['keyslots', 'none'] as const] : []),
    ...(requirements.length === 0 ? [] : [['requirements', requirements.join(', ')] as const]),
    copiesRow(info),
  ];
  return [...alignedRows(rows), '', `volseal does not attach it: ${info.notAttached}`];
}

function sizeRows({ sizeBytes, imageBytes }: VolumeInfo): Row[] {
  const size: Row = ['size', exactSize(sizeBytes)];
  return sizeBytes === imageBytes ? [size] : [size, ['image', `${exactSize(imageBytes)} when it was encrypted`]];
}

function allocationRow({ allocation, allocatedBytes, hasHoles }: VolumeInfo): Row {
  const kind =
    allocation === 'full'
      ? hasHoles
        ? 'full, but the file has holes, which volseal did not make: they read as noise, and show what is not in use (densify fills them)'
        : 'full: every sector is written'
      : 'sparse: only sectors in use are written, and only volseal opens it (densify makes it full)';
  return ['allocation', allocatedBytes === null ? kind : `${kind}; ${exactSize(allocatedBytes)} on disk`];
}

const KEYSLOT_KINDS = {
  recovery: 'recovery key',
  passphrase: 'passphrase',
  foreign: 'not added by volseal: used with --any-keyslot only',
} as const;

/** A keyslot in words. */
export const keyslotLine = ({ keyslot, kind, created }: KeyslotInfo): string =>
  `${keyslot}: ${KEYSLOT_KINDS[kind]}${created === null ? '' : `, since ${created}`}`;

const snapshotRows = ({ snapshot, updatingSince }: VolumeInfo): Row[] => {
  if (snapshot === null) return [];
  return [
    ['snapshot', updatingSince === null ? `the image of ${snapshot}` : `a mixture: being brought from ${updatingSince} to ${snapshot}`],
  ];
};

const keyslotRows = ({ keyslotList }: VolumeInfo): Row[] =>
  (keyslotList.length === 0 ? ['none'] : keyslotList.map(keyslotLine)).map((line, index) => [index === 0 ? 'keyslots' : '', line]);

const contextRows = ({ encryptionContext }: VolumeInfo): Row[] =>
  contextLines(encryptionContext).map((line, index) => [index === 0 ? 'context' : '', line]);
