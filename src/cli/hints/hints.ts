/**
 * What to do next, for every error. All hints are here, so that they agree with each other and with the commands. A
 * hint is read by somebody who does exactly what it says: it must never destroy data, and must lead somewhere.
 */
import type { ErrorCode, ErrorDetails } from '../../errors.js';
import { VOLUME_BYTES_MAX } from '../../limits.js';
import { STANDARD_INPUT, STANDARD_OUTPUT } from '../terminal/standard-streams.js';
import { shown } from '../terminal/text.js';
import {
  dataMismatchHint,
  headerDamagedHint,
  KEEP_HEADER,
  keyDigestHint,
  keyslotHint,
  notAVolumeHint,
  unsupportedHint,
} from './headers.js';
import { inPlaceHint, noRoomInPlaceHint } from './in-place.js';
import {
  isObject,
  STORE_BUSY_HINT,
  snapshotResumeHint,
  storeDeniedHint,
  storeNotFoundHint,
  storeRequestHint,
  storeUnreachableHint,
  uploadAbortedHint,
  uploadResumeHint,
} from './stores.js';

/** What a hint is chosen by. */
export interface HintRequest {
  /** The code of the error. */
  code: ErrorCode;
  /** The details of the error. */
  details: ErrorDetails;
  /** The command that failed: `encrypt`, `kms serve`. */
  command: string;
}

type Hint = string | undefined | ((request: HintRequest) => string | undefined);

/**
 * One or two sentences, with the exact command if there is one; several lines are possible. Undefined if the message
 * says it all.
 */
export function hintFor(request: HintRequest): string | undefined {
  const hint = HINTS[request.code];
  return typeof hint === 'function' ? hint(request) : hint;
}

const HINTS: Readonly<Record<ErrorCode, Hint>> = {
  ERR_ARGUMENT: argumentHint,
  ERR_TARGET_EXISTS: targetExistsHint,
  ERR_TARGET_SIZE: ({ command }) =>
    command === 'decrypt'
      ? 'Choose a device that is at least as large as the image.'
      : 'Choose a larger device: a volume needs 1 MiB more than its image, unless its header is detached.',
  ERR_SOURCE_CHANGED: ({ details }) =>
    isObject(details.path)
      ? 'Name one version of it (s3://BUCKET/KEY?versionId=ID), or run the command again once nobody writes to it.'
      : `Stop the program that writes to it (fuser -v ${shown(details.path, 'IMAGE')} names it), or read a snapshot instead. Then ${beginAnew(details.partial)}run the command again.`,
  ERR_RESUME: resumeHint,
  ERR_IMAGE_SIZE: imageSizeHint,
  ERR_IMAGE_DIFFERS: imageDiffersHint,
  ERR_ABORTED: ({ details }) => {
    if (details.record !== undefined) return uploadAbortedHint({ details });
    return details.partial === undefined ? undefined : 'To continue from there, run the same command again.';
  },
  ERR_KMS_UNREACHABLE: ({ command }) =>
    `Check that the server runs, that the network reaches it, and that --kms or VOLSEAL_KMS names it; then try again.${
      isReader(command) ? '' : ' The embedded KMS (--kms embedded) needs no server.'
    }`,
  ERR_STORE_NOT_FOUND: storeNotFoundHint,
  ERR_STORE_DENIED: storeDeniedHint,
  ERR_STORE_REQUEST: storeRequestHint,
  ERR_STORE_UNREACHABLE: storeUnreachableHint,
  ERR_KMS_DENIED: deniedHint,
  ERR_KMS_NOT_FOUND: notFoundHint,
  ERR_KMS_KEY_STATE: keyStateHint,
  ERR_KMS_REQUEST: requestHint,
  ERR_KMS_KEY_MISMATCH: ({ details }) =>
    `Find out who made it before you use it: volseal info ${shown(details.path, 'VOLUME')} shows its key and its context.`,
  ERR_WORKSPACE_STORE:
    'The store is the directory workspaces of $VOLSEAL_HOME. Check that this is the right home and that the disk has free space. If the store is damaged, keep a copy and restore the directory from a backup.',
  ERR_WORKSPACE_NOT_FOUND: 'volseal workspace list shows the WorkSpaces of this home.',
  ERR_WORKSPACE_STATE: workspaceStateHint,
  ERR_AUDIT: ({ details }) =>
    details.errno === 'ENOSPC' || details.errno === 'EDQUOT'
      ? 'Free some space on that disk, then run the command again: no call is made that cannot be recorded.'
      : 'volseal audit verify shows what is wrong. Keep a copy of the directory audit of $VOLSEAL_HOME as evidence; then volseal audit restart begins a new log.',
  ERR_KMS_REPLY: 'The server that answered is not a KMS that can be trusted with this volume: check --kms and VOLSEAL_KMS.',
  ERR_KMS_STORE: ({ command }) =>
    command === 'kms init'
      ? 'The root key of an existing store cannot be changed. For a new store, choose another directory: VOLSEAL_HOME=DIRECTORY volseal kms init ...'
      : 'Change nothing in the directory kms of $VOLSEAL_HOME before you have a copy of it. If the root key is missing or wrong, bring back the right one (key file, passphrase file or command). If the disk is full, free some space. Only a damaged store must be restored from a backup, which lacks the keys made since.',
  ERR_CONTEXT_MISMATCH: contextHint,
  ERR_NOT_A_VOLUME: notAVolumeHint,
  ERR_HEADER_DAMAGED: headerDamagedHint,
  ERR_HEADER_UNSUPPORTED: unsupportedHint,
  ERR_HEADER_TOKEN:
    'volseal did not make this LUKS2 volume, or its token was removed. If it has a passphrase, cryptsetup opens it. If the token was removed, `cryptsetup token import` brings it back from a backup.',
  ERR_HEADER_MAC: `The header was changed after volseal wrote it. ${KEEP_HEADER} If it was not you who changed it, do not trust the data. If it was, undo the change, or restore the header from a backup that is not older than the last re-encryption.`,
  ERR_HEADER_BACKUP: ({ details }) =>
    `To look at the data with the backup and change nothing: volseal decrypt ${shown(details.path, 'VOLUME')} copy.raw --header ${shown(details.backup, 'BACKUP')}. Is it the volume you mean?`,
  ERR_VOLUME_SIZE: 'If a copy was cut short, copy the volume again; otherwise restore it from a backup.',
  ERR_KEY_DIGEST: keyDigestHint,
  ERR_KEYSLOT: keyslotHint,
  ERR_DATA_MISMATCH: dataMismatchHint,
  ERR_STATE_DETACHED: detachedHint,
  ERR_STATE_BUSY: busyHint,
  ERR_STATE_INTERRUPTED: interruptedHint,
  ERR_STATE_READ_ONLY: undefined,
  ERR_STATE_POISONED:
    'The disk did not keep what was written. Check it (dmesg, smartctl), then write again everything since the last successful flush.',
  ERR_KEY_GONE: undefined,
  ERR_IO: ioHint,
  // Its message says what is missing, and how to get it.
  ERR_REQUIREMENT: undefined,
  ERR_QUEUE_UNREACHABLE: 'Check that the server runs, and --queue or $VOLSEAL_QUEUE; then run the command again. No job is lost.',
  ERR_QUEUE_REFUSED: ({ details }) =>
    details.policy === undefined
      ? 'Check user, password and database in --queue or $VOLSEAL_QUEUE. PostgreSQL needs version 13, Redis 6.2.'
      : 'Set it on the server: redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf).',
  ERR_MEMORY_LOCK: memoryLockHint,
  // Its message says what to do: programs that embed volseal meet it too.
  ERR_ADDON: () => undefined,
  ERR_SELF_TEST:
    'No data was touched. Build volseal again (npm rebuild volseal). If that does not help, test the memory of this machine and do not use it for volumes.',
};

function resumeHint({ details }: HintRequest): string {
  if (details.record !== undefined) return uploadResumeHint({ details });
  if (details.snapshotRecord === true) return snapshotResumeHint({ details });
  if (details.inPlace === true) return 'Do not remove the journal: without it nobody knows which part of the image is in which form.';
  const checkpoint = details.path === undefined ? '' : `${details.path}.json`;
  return `With the same source, target and options as before the job continues. To begin anew: rm ${shown(details.path, 'FILE')} ${shown(checkpoint, 'FILE.json')}`;
}

function imageDiffersHint({ details: { snapshot } }: HintRequest): string {
  if (snapshot !== undefined) return `Nothing was changed. To make a new volume of all of it: volseal encrypt ebs:${snapshot} NEW_VOLUME`;
  return 'One of the two was changed, or the image is another one. volseal cannot tell which one is right.';
}

function interruptedHint({ details, command }: HintRequest): string {
  const { backup, header, successor, volume, resumable, replaced, inPlace, path: image, snapshot, since } = details;
  if (snapshot !== undefined) return `To finish it: volseal encrypt ebs:${snapshot} ${shown(image, 'VOLUME')} --since ${since}`;
  if (inPlace === true) return inPlaceHint(details, command);
  const path = shown(header, 'HEADER');
  const ways = [
    ...(resumable ? ['To complete the replacement, run the same command again.'] : []),
    ...(successor && !resumable ? [`To complete the replacement: mv ${shown(successor, 'NEW')} ${shown(volume, 'VOLUME')}`] : []),
    rollbackHint(path, backup, replaced === true),
  ];
  return ways.join('\n');
}

/** `replaced`: there was a header before, which the backup is; it may be gone. */
function rollbackHint(path: string, backup: unknown, replaced: boolean): string {
  if (backup) return `To roll back to what was there before: mv ${shown(backup, 'BACKUP')} ${path}`;
  if (!replaced) return `To roll back to what was there before: rm ${path}`;
  return `The header of the old volume is no longer beside it. To roll back, bring it from a backup of yours and name it: --header FILE. Keep ${path}: it is the new volume's only header.`;
}

function detachedHint({ details, command }: HintRequest): string | undefined {
  if (details.workspaceId !== undefined) return `volseal workspace attach ${shown(details.workspaceId, 'WORKSPACE')} attaches it.`;
  return command === 'detach' ? 'volseal attached lists what is attached.' : undefined;
}

function busyHint({ details: { path, clients, workspaceId }, command }: HintRequest): string {
  if (clients !== undefined) {
    return 'Disconnect them first (shut the virtual machine down, unmount the file system), then run the command again. With --force they are cut off, and lose what they have not written yet.';
  }
  if (workspaceId !== undefined)
    return `To detach it: volseal workspace detach ${shown(workspaceId, 'WORKSPACE')}. With --force terminate does that itself.`;
  if (isObject(path)) return STORE_BUSY_HINT;
  const volume = shown(path, 'VOLUME');
  const wait = `Wait until the other process is done; fuser -v ${volume} names it.`;
  return command.startsWith('kms') ? wait : `${wait} If volseal attached lists the volume: volseal detach ${volume}`;
}

function workspaceStateHint({ details: { state, workspaceId } }: HintRequest): string {
  const id = shown(workspaceId, 'WORKSPACE');
  switch (state) {
    case 'creating':
      return `The same command as before completes it. To undo it instead: volseal workspace terminate ${id} --yes`;
    case 'rebuilding':
      return `To complete it: volseal workspace rebuild ${id}`;
    case 'terminating':
      return `To complete it: volseal workspace terminate ${id} --yes`;
    default:
      return `A user has one WorkSpace in a directory: volseal workspace info ${id} shows it.`;
  }
}

function argumentHint({ details, command }: HintRequest): string {
  if (details.format !== undefined) return formatHint(details);
  if (details.kernel !== undefined)
    return 'VOLSEAL_KERNEL= volseal kernels shows those that this machine can run. Without VOLSEAL_KERNEL volseal takes the fastest.';
  if (details.unknownSize === true) return 'Give the size of the image: --size 10G';
  if (details.path === STANDARD_INPUT) return 'Give it a file or a pipe: volseal write VOLUME < FILE';
  if (details.kind === 'a pipe') return pipeHint(command);
  if (details.kind === 'a link to nothing') return 'Name the file itself that is to be made, or remove the link.';
  if (details.kind === 'a directory') return 'Name the file itself: a raw disk image, or a volume.';
  if (typeof details.kms === 'string') return `If that is your KMS, name it: volseal ${command} --kms ${shown(details.kms, 'URL')} ...`;
  return `volseal ${command === '' ? '' : `${command} `}--help shows what it takes, with an example.`;
}

/** An image that is not raw, made raw. */
function formatHint({ path, conversion, program }: ErrorDetails): string {
  const image = shown(path, 'IMAGE');
  const insist = 'If it is what you want to encrypt, as it is: --raw.';
  switch (conversion) {
    case 'qemu-img':
      return `Convert it first: qemu-img convert -p -O raw ${image} RAW, a new file. ${insist}`;
    case 'simg2img':
      return `Convert it first: simg2img ${image} RAW, a new file. ${insist}`;
    case 'luks':
      return `It is encrypted already: volseal info ${image} shows how. ${insist}`;
    default:
      if (!program) return `Unpack it first. ${insist}`;
      return `Unpack it on the way: ${program} -dc ${image} | volseal encrypt - VOLUME --size 10G, with the size of what is in it. ${insist}`;
  }
}

function pipeHint(command: string): string {
  if (command === 'decrypt')
    return 'A pipe gets the image from standard output: volseal decrypt VOLUME - > PIPE. A volume cannot be a pipe.';
  if (command === 'encrypt') return 'An image comes through a pipe as standard input: ... | volseal encrypt - VOLUME --size 10G';
  return 'Name a regular file or a block device.';
}

function targetExistsHint({ details, command }: HintRequest): string {
  if (command === 'kms backup') return 'Name a directory that does not exist yet.';
  if (command === 'recovery add') return 'Choose another file: a new key is written to a new file.';
  if (details.kind === 'a volume') return 'Name another file for the backup.';
  if (details.kind === 'a header') {
    const header = shown(details.path, 'HEADER');
    return `Name another file for the new one. To use this name all the same, keep the old header: mv -n ${header} ${header}.old. Remove it only if ${details.volumeId ?? 'that volume'} is not needed any more: rm ${header}`;
  }
  if (isObject(details.path)) return 'Choose another key, or replace this object with --force, once the new one is complete.';
  if (details.kind === 'a block device')
    return 'If nothing on it is needed any more: --force. It is overwritten in place, so an interrupted run leaves neither old nor new data.';
  return 'Choose another target, or replace this one with --force: it stays until the new file is complete.';
}

function imageSizeHint({ details, command }: HintRequest): string {
  const { sizeBytes, sectorBytes } = details;
  if (details.unknownSize === true) return 'Give the size of the image with --size: then 468 GiB fit.';
  if (Number(sizeBytes) > VOLUME_BYTES_MAX) return 'Split the data over several volumes.';
  if (command === 'create' || command.startsWith('workspace'))
    return `Give a size of at least one sector that is a multiple of ${sectorBytes ?? 512}: 64M, for example.`;
  if (sizeBytes === 0) return 'Name an image that is not empty. For an empty volume: volseal create VOLUME --size 64M';
  return 'With --pad the last sector is filled with zeros, and decrypting gives back this length.';
}

/** `--kms aws:REGION` for a key that is not one of the embedded KMS, so that the command asks the right KMS. */
function kmsOfKey(keyId: unknown): string {
  const [, region] = /^arn:[^:]+:kms:([^:]+):/.exec(String(keyId)) ?? [];
  return region === undefined || region === 'local' ? '' : ` --kms aws:${region}`;
}

function deniedHint(request: HintRequest): string | undefined {
  const { details } = request;
  if (details.name === 'UnknownKey') return otherHomeHint(request);
  if (details.name === 'PolicyCheck') return 'Add the missing statements and check again. An explicit deny must be removed instead.';
  if (details.name === 'AccessDeniedException' && typeof details.keyId === 'string') {
    const principal = typeof details.principal === 'string' ? details.principal : 'PRINCIPAL';
    return `To see what is missing: volseal policy check --as ${principal} --key ${details.keyId}${kmsOfKey(details.keyId)}`;
  }
  if (details.name === 'InvalidGrantTokenException')
    return 'The grant was retired or revoked, or the token belongs to another KMS: create the grant again.';
  return 'Check which credentials are in use (aws sts get-caller-identity). For a KMS of volseal kms serve, make an access key on that machine: volseal kms create-access-key root';
}

function notFoundHint(request: HintRequest): string {
  const { details, command } = request;
  if (details.name === 'NoStore' && !isReader(command)) return `volseal kms create-key makes one there. ${HOME_RULE}`;
  if (details.name === 'NoStore') return otherHomeHint(request);
  if (isReader(command) && typeof details.keyId === 'string') {
    return `The volume needs the key ${details.keyId}: name the KMS that has it (--kms, VOLSEAL_KMS; VOLSEAL_HOME for the embedded one).`;
  }
  return 'volseal kms list-keys and volseal kms list-aliases show the keys of a KMS; volseal kms create-key makes a key.';
}

const HOME_RULE = 'The home is $VOLSEAL_HOME, else .local/share/volseal in your home directory; sudo and cron often change both.';

/** A volume of an embedded KMS, and the KMS of this home does not have its key. */
const otherHomeHint = ({ details }: HintRequest): string =>
  `volseal looked in ${shown(details.home, 'its home')}. Name the home in which the volume was made: ` +
  `VOLSEAL_HOME=HOME, or --kms embedded:HOME. ${HOME_RULE}`;

function keyStateHint({ details }: HintRequest): string {
  const keyId = String(details.keyId ?? 'KEY');
  const region = kmsOfKey(keyId).replace(' --kms aws:', ' --region ');
  const first = 'Enable the key (if its deletion is scheduled, cancel that first: aws kms cancel-key-deletion):';
  const enable = (server: string): string => `aws kms enable-key --key-id ${keyId}${server}`;
  if (!keyId.startsWith('arn:aws:kms:local:')) return [first, enable(region)].join('\n');
  return [
    first,
    'volseal kms serve --listen 127.0.0.1:4599 &',
    'eval "$(volseal kms create-access-key root)"',
    enable(' --endpoint-url http://127.0.0.1:4599 --region us-east-1'),
  ].join('\n');
}

function requestHint({ details }: HintRequest): string | undefined {
  if (details.name === 'AlreadyExistsException') return 'Choose another name; volseal kms list-aliases shows the names in use.';
  if (details.name === 'NotAuthorizedException') return 'Choose another name: names that begin with alias/aws/ belong to AWS.';
  return undefined;
}

function contextHint({ details, command }: HintRequest): string {
  if (details.operation === undefined)
    return `volseal info ${shown(details.path, 'VOLUME')} shows the context of the volume. Is it the volume you mean?`;
  return isReader(command)
    ? `KMS did not wrap this data key under this context: the header was changed or damaged. ${KEEP_HEADER} Then restore it from a backup of this very volume.`
    : 'Give exactly the pairs that the data key was wrapped with.';
}

/** A lock that cannot be had, because there are none. */
function noLocksHint({ details, command }: HintRequest): string {
  if (['write', 'rewrap', 'densify', 'attach', 'serve'].includes(command) && details.lockless === true)
    return 'Copy the volume to a file system with locks and work there. Or make sure that no process of any machine uses it until this one is done: --allow-no-lock';
  if (isMaker(command) && String(details.path).endsWith('.resume'))
    return 'Run it without --resume, or choose a target on a file system with locks.';
  return 'Use a file system with locks (flock), a local one. Where the files of $VOLSEAL_HOME are on one without, move them: VOLSEAL_HOME=DIRECTORY.';
}

function ioHint(request: HintRequest): string | undefined {
  const { details, command } = request;
  if (details.syscall === 'flock') return noLocksHint(request);
  if (details.path === STANDARD_OUTPUT)
    return 'Only the output could not be written: what the command did before that stays done. Free some space where standard output goes, or send it elsewhere.';
  if (details.published === true) return 'Run sync(1), and check the disk (dmesg) before you rely on the new file.';
  switch (details.errno) {
    case 'ENOENT':
    case 'ENOTDIR':
      return details.syscall === 'uv_cwd'
        ? 'Go to a directory that exists (cd), then run the command again.'
        : 'Check the path: it is relative to the current directory.';
    case 'EISDIR':
      return 'Name the file itself: a raw disk image, or a volume.';
    case 'EACCES':
    case 'EPERM':
      if (/^(prctl|setrlimit)\(/.test(String(details.syscall)))
        return 'A sandbox (seccomp) forbids this call. volseal needs it to keep keys out of core dumps: allow prctl and prlimit64.';
      return `Check who may do that: ls -ld ${shown(details.path, 'FILE')} and its directory.`;
    case 'ENOSPC':
    case 'EDQUOT':
      if (details.inPlace === true || details.room !== undefined) return noRoomInPlaceHint(details);
      if (!isMaker(command) || isStore(details.path)) return 'Free some space on that disk, then run the command again.';
      return 'Free some space, or choose a target on another disk: it needs the size of the image and 1 MiB more.';
    case 'EROFS':
      if (details.kind === 'a block device')
        return `blockdev --getro ${shown(details.path, 'DEVICE')} prints 1 for it: choose another device.`;
      // Another home has other keys: "choose another one" would lead away from them.
      return isStore(details.path) || String(details.path).endsWith('/kms')
        ? 'The file system with the home of the KMS is mounted read-only: mount it for writing, as each call is recorded there.'
        : 'The file system is mounted read-only: mount it for writing, or choose another one.';
    case 'ENODATA':
      return 'Give the exact size of the uncompressed, unencrypted image with --size.';
    case 'EFBIG':
      if (details.syscall === 'read') return 'Give the size of the whole image with --size: nothing may follow it on the stream.';
      return 'The file system, or `ulimit -f`, does not allow a file this large: choose another target.';
    case 'EEXIST':
      if (details.syscall === 'bind') return `Choose another path for the socket: ${shown(details.path, 'PATH')} is in use or no socket.`;
      return 'Choose another name.';
    case 'EADDRINUSE':
      return 'Another program listens there: choose another port, or port 0 for one that is free.';
    case 'EADDRNOTAVAIL':
      return 'This machine has no such address: listen on 127.0.0.1.';
    case 'EIO':
      return 'The disk failed: see dmesg, and copy what you can to another disk.';
    default:
      if (command === '') return undefined;
      return `${isMaker(command) && !isLeft(details) ? 'No incomplete file was left behind. ' : ''}Remove the cause, then run the command again.`;
  }
}

function memoryLockHint({ details }: HintRequest): string {
  if (details.errno === 'EPERM' || details.errno === 'ENOSYS' || details.errno === 'EACCES')
    return 'A sandbox (seccomp) forbids locked memory: allow memfd_secret or mlock. If `ulimit -l` says 0, raise it.';
  return 'Keys are kept in locked memory only. Raise the limit with `ulimit -l 8192` (as root, or in /etc/security/limits.conf; LimitMEMLOCK= in a systemd unit), then try again.';
}

/** Whether a failed run has left something: a device half written, or a partial file for a later run. */
const isLeft = ({ device, partial }: ErrorDetails): boolean => device !== undefined || partial !== undefined;
/** A store's file, not the target of the command. */
const isStore = (path: unknown): boolean => typeof path === 'string' && path.endsWith('.mdb');
const isMaker = (command: string): boolean => ['encrypt', 'decrypt', 'create'].includes(command);
const isReader = (command: string): boolean => ['decrypt', 'read', 'verify', 'write', 'rewrap', 'densify'].includes(command);

/** The partial file of a source that changed meanwhile is useless. */
const beginAnew = (partial: unknown): string =>
  typeof partial === 'string' ? `remove the partial file (rm ${shown(partial, '')} ${shown(`${partial}.json`, '')}) and ` : '';
