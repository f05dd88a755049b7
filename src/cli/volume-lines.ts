/** Facts about a volume, as lines of text. */
import type { KeyslotInfo } from '../luks2/known-keyslots.js';
import type { VolumeInfo } from '../volume/info.js';
import { alignedRows, contextLines } from './output.js';
import { exactSize } from './sizes.js';

type Row = readonly [label: string, value: string];

/** The result of making a volume. */
export function newVolumeLines(done: string, info: VolumeInfo): string[] {
  return [
    done,
    ...alignedRows([['volume id', info.volumeId], ...sizeRows(info), allocationRow(info), ['kms key', info.keyId], ...contextRows(info)]),
  ];
}

/** Everything that the header says, with a reminder that nothing of it is proved. */
export function infoLines(info: VolumeInfo): string[] {
  const { primary, secondary } = info.headerCopies;
  const rows: Row[] = [
    ['volume', info.path],
    ...(info.header === null ? [] : [['header', info.header] as const]),
    ['volume id', info.volumeId],
    ['uuid', info.uuid],
    ...sizeRows(info),
    allocationRow(info),
    ['cipher', `${info.cipher}, ${info.sectorBytes}-byte sectors, data from byte ${info.dataOffsetBytes}`],
    ['kms', info.kms],
    ['kms key', info.keyId],
    ...contextRows(info),
    ['encrypted key', info.encryptedDataKey],
    ['created', info.created],
    ['header copies', primary === secondary ? `both ${primary}` : `first ${primary}, second ${secondary}`],
    ...keyslotRows(info),
  ];
  return [...alignedRows(rows), '', 'Only the header was read; nothing is proved yet. To check it with the key: volseal verify'];
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

const keyslotRows = ({ keyslotList }: VolumeInfo): Row[] =>
  (keyslotList.length === 0 ? ['none'] : keyslotList.map(keyslotLine)).map((line, index) => [index === 0 ? 'keyslots' : '', line]);

const contextRows = ({ encryptionContext }: VolumeInfo): Row[] =>
  contextLines(encryptionContext).map((line, index) => [index === 0 ? 'context' : '', line]);
