/** What to do next, for every error: all hints are here, so that they agree with each other and with the commands. */
import type { ErrorCode, ErrorDetails } from '../errors.js';
import { STANDARD_INPUT, STANDARD_OUTPUT } from './standard-streams.js';

export interface HintRequest {
  code: ErrorCode;
  details: ErrorDetails;
  /** The command that failed: `encrypt`, `kms serve`. */
  command: string;
}

type Hint = string | undefined | ((request: HintRequest) => string | undefined);

/** One or two sentences, with the exact command where there is one; undefined where the message already says all there is. */
export function hintFor(request: HintRequest): string | undefined {
  const hint = HINTS[request.code];
  return typeof hint === 'function' ? hint(request) : hint;
}

const HINTS: Readonly<Record<ErrorCode, Hint>> = {
  ERR_ARGUMENT: argumentHint,
  ERR_TARGET_EXISTS: targetExistsHint,
  ERR_TARGET_SIZE: 'Choose a larger device: a volume needs one MiB more than its image, unless its header is detached.',
  ERR_SOURCE_CHANGED: ({ details }) =>
    `End what writes to it (fuser -v names it), or take a snapshot and read that, then ${beginAnew(details.partial)}run the command again.`,
  ERR_RESUME: ({ details }) =>
    `To begin anew: rm ${quoted(details.path, 'FILE')} ${quoted(details.path === undefined ? '' : `${details.path}.json`, 'FILE.json')}`,
  ERR_IMAGE_SIZE: imageSizeHint,
  ERR_IMAGE_DIFFERS: 'Either was changed since, or the image is another one: volseal cannot tell which of the two is right.',
  ERR_ABORTED: ({ details }) => (details.partial === undefined ? undefined : 'To go on from there, run the same command again.'),
  ERR_KMS_UNREACHABLE:
    'Check that the server runs and that --kms or VOLSEAL_KMS names it, then try again. `--kms embedded` needs no server; `volseal kms serve --listen 127.0.0.1:4599` starts one.',
  ERR_KMS_DENIED: deniedHint,
  ERR_KMS_NOT_FOUND: notFoundHint,
  ERR_KMS_KEY_STATE: keyStateHint,
  ERR_KMS_REQUEST: requestHint,
  ERR_WORKSPACE_STORE: 'The store of WorkSpaces lies in the folder workspaces of $VOLSEAL_HOME. Restore that folder from a backup.',
  ERR_WORKSPACE_NOT_FOUND: 'volseal workspace list shows those there are.',
  ERR_WORKSPACE_STATE: ({ details }) =>
    details.state === 'ready'
      ? `A user has one in a directory: volseal workspace info ${quoted(details.workspaceId, 'WORKSPACE')} shows it.`
      : `What was begun is finished by the same command again, or undone: volseal workspace terminate ${quoted(details.workspaceId, 'WORKSPACE')} --yes`,
  ERR_AUDIT:
    'It lies in the folder audit of $VOLSEAL_HOME. See volseal audit verify; free some room there, or move the folder away to begin a new log.',
  ERR_KMS_REPLY: 'What answered is not a KMS that can be trusted with this volume: check --kms and VOLSEAL_KMS.',
  ERR_KMS_STORE:
    'The store of the embedded KMS lies in the folder kms of $VOLSEAL_HOME. Restore that whole folder from a backup: keys without their root key are lost.',
  ERR_CONTEXT_MISMATCH: contextHint,
  ERR_NOT_A_VOLUME: ({ details }) =>
    `If its header is detached, name it with --header FILE. If it is a raw image, encrypt it: volseal encrypt ${quoted(details.path, 'IMAGE')} VOLUME`,
  ERR_HEADER_DAMAGED: ({ details }) =>
    Object.values(details.copies ?? {}).includes('good')
      ? `Attaching for writing repairs it from the other copy: volseal write ${quoted(details.path, 'VOLUME')} < /dev/null`
      : 'Restore the header from a backup of the volume: without it nothing else can say which key the data has.',
  ERR_HEADER_UNSUPPORTED:
    'volseal reads LUKS2 with aes-xts-plain64 and one data segment, nothing else. Open other volumes with cryptsetup.',
  ERR_HEADER_TOKEN:
    'This LUKS2 volume was not made by volseal, or its token was removed. If it has a passphrase, open it with cryptsetup; else restore the header from a backup.',
  ERR_HEADER_MAC:
    'Somebody or something changed the header after volseal wrote it. Restore the header from a backup, and do not trust the data before that.',
  ERR_VOLUME_SIZE: 'Restore the volume from a backup, or copy it again if a copy was cut short.',
  ERR_KEY_DIGEST: 'The header and the data key do not belong together: restore the header from a backup of this very volume.',
  ERR_STATE_DETACHED: undefined,
  ERR_STATE_BUSY: ({ details }) => `Wait for the other process, or end it: fuser -v ${quoted(details.path, 'VOLUME')} names it.`,
  ERR_STATE_INTERRUPTED: interruptedHint,
  ERR_STATE_READ_ONLY: undefined,
  ERR_STATE_POISONED:
    'The disk failed to keep what was written. Check it (dmesg, smartctl), then write again what came after the last good flush.',
  ERR_KEY_GONE: undefined,
  ERR_IO: ioHint,
  ERR_MEMORY_LOCK:
    'Keys are kept in locked memory only. Raise the limit with `ulimit -l 8192` (as root, or in /etc/security/limits.conf; LimitMEMLOCK= in a systemd unit), then try again.',
  ERR_SELF_TEST:
    'No data was touched. Build volseal again (npm rebuild volseal); if that does not help, test the memory of this machine and do not trust it with volumes.',
};

function interruptedHint({ details: { backup, header, successor, volume, resumable } }: HintRequest): string {
  const place = quoted(header, 'HEADER');
  const ways = [
    ...(resumable ? ['To finish, run the same command again.'] : []),
    `To have back what was there: ${backup ? `mv ${quoted(backup, 'BACKUP')} ${place}` : `rm ${place}`}`,
    ...(successor && !resumable
      ? [`To have the new volume, which is whole: mv ${quoted(successor, 'NEW')} ${quoted(volume, 'VOLUME')}`]
      : []),
  ];
  return ways.join('\n      ');
}

function argumentHint({ details, command }: HintRequest): string {
  if (details.kernel !== undefined)
    return 'VOLSEAL_KERNEL= volseal kernels shows those that this machine can run; without VOLSEAL_KERNEL the fastest does the work.';
  if (details.path === STANDARD_INPUT) return 'Feed it what is to be written: volseal write VOLUME < FILE';
  if (details.kind === 'a pipe') return 'Images come through a pipe as standard input: ... | volseal encrypt - VOLUME --size 10G';
  if (details.kind === 'a link to nothing') return 'Name the file itself that is to be made, or remove the link.';
  if (details.kind === 'a folder') return 'Name the file itself: a raw disk image, or a volume.';
  if (typeof details.kms === 'string') return `If that is your KMS, say so: volseal ${command} --kms ${quoted(details.kms, 'URL')} ...`;
  return `volseal ${command === '' ? '' : `${command} `}--help shows what it takes, with an example.`;
}

function targetExistsHint({ details }: HintRequest): string {
  if (details.kind === 'a block device')
    return 'If nothing on it is needed any more: --force. An interrupted run leaves neither old nor new.';
  return 'Name another target, or replace this one with --force: it stays until its successor is whole.';
}

function imageSizeHint({ details, command }: HintRequest): string {
  const { sizeBytes, sectorBytes } = details;
  if (command === 'create') return `Give a size of at least one sector that is a multiple of ${sectorBytes}: --size 64M, for instance.`;
  if (sizeBytes === 0) return 'Name an image that holds something; for an empty volume: volseal create VOLUME --size 64M';
  return 'With --pad the last sector is filled with zeros, and decrypting gives back exactly this length.';
}

function deniedHint({ details }: HintRequest): string | undefined {
  if (details.name === 'PolicyCheck')
    return 'Add the statements that are missing, and look again: an explicit deny has to be taken out instead.';
  if (details.name === 'AccessDeniedException' && typeof details.keyId === 'string') {
    const principal = typeof details.principal === 'string' ? details.principal : 'PRINCIPAL';
    return `What is missing, and for what: volseal policy check --as ${principal} --key ${details.keyId}`;
  }
  if (details.name === 'InvalidGrantTokenException')
    return 'The grant was retired or revoked, or the token is of another KMS: make the grant again.';
  return 'Check whose credentials are in use (aws sts get-caller-identity). For a KMS of volseal kms serve, where it runs: volseal kms create-access-key root';
}

function notFoundHint({ details, command }: HintRequest): string {
  if (isReader(command) && typeof details.keyId === 'string') {
    return `The volume needs the key ${details.keyId}: ask the KMS that has it (--kms, VOLSEAL_KMS; for the embedded one VOLSEAL_HOME).`;
  }
  return 'volseal kms list-keys and volseal kms list-aliases show what there is; volseal kms create-key makes a key.';
}

function keyStateHint({ details }: HintRequest): string {
  const keyId = String(details.keyId ?? 'KEY');
  if (!keyId.startsWith('arn:aws:kms:local:'))
    return `Enable the key: aws kms enable-key --key-id ${keyId} (or aws kms cancel-key-deletion).`;
  return `Enable the key: run volseal kms serve --listen 127.0.0.1:4599, and beside it aws kms enable-key --endpoint-url http://127.0.0.1:4599 --key-id ${keyId}`;
}

function requestHint({ details }: HintRequest): string | undefined {
  if (details.name === 'AlreadyExistsException') return 'Choose another name; volseal kms list-aliases shows those that are taken.';
  if (details.name === 'NotAuthorizedException') return 'Choose another name: those that begin with alias/aws/ belong to AWS.';
  return undefined;
}

function contextHint({ details, command }: HintRequest): string {
  if (details.operation === undefined) {
    return `volseal info ${quoted(details.path, 'VOLUME')} shows the context that the volume has. Is it the volume you mean?`;
  }
  return isReader(command)
    ? 'The context or the encrypted data key in the header is not what KMS wrapped: restore the header from a backup.'
    : 'Give exactly the pairs that the data key was wrapped with.';
}

function ioHint({ details, command }: HintRequest): string | undefined {
  if (details.path === STANDARD_OUTPUT) {
    return 'Only the output could not be written: what the command did before that stays done. Free some room where standard output goes, or send it elsewhere.';
  }
  if (details.published === true) return 'Run sync(1), and look after the disk (dmesg) before you rely on the new file.';
  switch (details.errno) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'Check the path: it is taken from the current folder.';
    case 'EISDIR':
      return 'Name the file itself: a raw disk image, or a volume.';
    case 'EACCES':
    case 'EPERM':
      return `Check who may do that: ls -ld ${quoted(details.path, 'FILE')} and its folder.`;
    case 'ENOSPC':
    case 'EDQUOT':
      if (!isMaker(command)) return 'Free some room on that disk, then run the command again.';
      return 'Free some room, or choose a target on another disk: it needs the size of the image and one MiB more.';
    case 'EROFS':
      return 'The file system is mounted read-only: choose a target on another one.';
    case 'ENODATA':
      return 'Give the size of the image as it comes: --size counts bytes before the cipher.';
    case 'EFBIG':
      if (details.syscall === 'read') return 'Give the size of the whole image with --size: nothing may follow it on the stream.';
      return 'The file system, or `ulimit -f`, does not allow a file this large: choose another target.';
    case 'EADDRINUSE':
      return 'Another program listens there: choose another port, or port 0 for one that is free.';
    case 'EADDRNOTAVAIL':
      return 'This machine has no such address: listen on 127.0.0.1.';
    case 'EIO':
      return 'The disk failed: see dmesg, and copy what you can to another disk.';
    default:
      if (command === '') return undefined;
      return `${isMaker(command) && !isLeft(details) ? 'Nothing half-made was left behind; mend' : 'Mend'} the cause, then run the command again.`;
  }
}

/** Whether a failed run has left something: a device half written, or what a later run goes on with. */
const isLeft = ({ device, partial }: ErrorDetails): boolean => device !== undefined || partial !== undefined;
const isMaker = (command: string): boolean => ['encrypt', 'decrypt', 'create'].includes(command);
const isReader = (command: string): boolean => ['decrypt', 'read', 'verify', 'write'].includes(command);

/** What is kept of a source that has changed since is of no use. */
const beginAnew = (partial: unknown): string =>
  typeof partial === 'string' ? `remove what is kept (rm ${quoted(partial, '')} ${quoted(`${partial}.json`, '')}) and ` : '';

/** A text as a shell takes it, or `placeholder` where there is none. */
function quoted(text: unknown, placeholder: string): string {
  if (typeof text !== 'string' || text === '') return placeholder;
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
