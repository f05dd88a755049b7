/**
 * The typed contract of the native addon (native/addon/*.cc keeps it, src/native.ts is its only loader).
 *
 * Every function is synchronous and may be called from any thread of the process: the vault and the devices are the
 * process's, not the thread's. Those that do I/O or cipher work are meant for worker threads. No argument is trusted:
 * each one is checked for type and range before anything happens, and each failure is thrown as an `Error` with `code`
 * (see src/errors.ts) and, for system calls, `errno` ("ENOSPC"), `syscall` and `offsetBytes`.
 */

declare const handleKind: unique symbol;

/** Names one slot of the key vault. Generational: once wiped, a handle never names a key again (`ERR_KEY_GONE`). */
export type KeyHandle = number & { readonly [handleKind]: 'key' };
/** Names an open device: a data segment on a file, with its key. */
export type DeviceHandle = number & { readonly [handleKind]: 'device' };
/** Names a running NBD server. */
export type NbdServerHandle = number & { readonly [handleKind]: 'server' };
/** Names a whole-image transform. */
export type TransformHandle = number & { readonly [handleKind]: 'transform' };
export type MoveHandle = number & { readonly [handleKind]: 'move' };

// ---- vault: keys in locked memory ----

export interface VaultInfo {
  /**
   * `memfd_secret` (no one can read it, the kernel included) or `mlock` (locked, left out of core dumps and of forks).
   */
  backend: 'memfd_secret' | 'mlock';
  /** Slots that hold a key now, all threads together. */
  liveKeys: number;
  lockedBytes: number;
}

/** Opens the vault if this is the first call. @throws `ERR_MEMORY_LOCK` */
export function vaultInfo(): VaultInfo;

/**
 * No core dumps of this process, and no reading of its memory by other processes of the same user (PR_SET_DUMPABLE 0,
 * RLIMIT_CORE 0). For programs, not for libraries. @throws `ERR_IO`
 */
export function forbidDumps(): void;

/**
 * Ends the process at once, without ending its threads first, whatever they do (`_exit(2)`): Node aborts where it ends
 * a thread that is loading a native module. For programs; after the last output. @param status 0 to 255 @throws
 * `ERR_ARGUMENT`
 */
export function exitNow(status: number): never;

// ---- the process, as a service ----

/**
 * No program that this process starts from now on gets a descriptor beyond standard error, unless it is given one:
 * whoever started this process may have left it a lock or a pipe that must not live on in a service. @throws `ERR_IO`
 */
export function closeOthersOnExec(): void;

/**
 * Sends this process SIGTERM when its parent ends (PR_SET_PDEATHSIG); at once where the parent is not `parentPid` any
 * more.
 * @throws `ERR_ARGUMENT`, `ERR_IO`
 */
export function endWithParent(parentPid: number): void;

/**
 * One message to the service manager, as sd_notify(3) sends it: lines of `NAME=VALUE`.
 * @param address `$NOTIFY_SOCKET`: a path, or an abstract name behind an `@` @throws `ERR_ARGUMENT`, `ERR_IO`
 */
export function notifyServiceManager(address: string, text: string): void;

/**
 * A pipe of two descriptors, which are the caller's to close, by {@link closePipeEnd} or by what owns them from then
 * on. Programs that this process starts do not inherit them.
 * @throws `ERR_IO`
 */
export function openPipe(): { readFd: number; writeFd: number };

/**
 * Opens the pipe behind `fd` once more, for reading, or for writing if `writable`; reads and writes of the new
 * descriptor do not block, and whoever shares `fd` does not notice. It is the caller's to close, as those of
 * {@link openPipe}.
 * @throws `ERR_IO`, with `ENXIO` where nobody reads it; `ERR_ARGUMENT`
 */
export function reopenPipe(fd: number, writable: boolean): number;

/**
 * Closes an end of a pipe of {@link openPipe} or {@link reopenPipe}. In a worker thread, Node's own closeSync warns of
 * a descriptor that it has not opened.
 * @throws `ERR_ARGUMENT` for every other descriptor: the event loop has pipes of its own. `ERR_IO`
 */
export function closePipeEnd(fd: number): void;

/**
 * Overwrites 64 KiB of this thread's stack below the caller. Node's TLS decrypts into an array on the stack and calls
 * JavaScript from above it: call this from a callback of the event loop's own (setImmediate), where that array lies
 * below.
 */
export function wipeStack(): void;

/** A new random key of 1 to 4096 bytes, from getrandom(2). @throws `ERR_MEMORY_LOCK`, `ERR_ARGUMENT` */
export function keyGenerate(byteLength: number): KeyHandle;

/**
 * Takes the member `member` (a string of standard base64, 1 to 4096 bytes decoded) of a JSON object into the vault.
 *
 * `chunks` are the object's bytes in order, 1 MiB at most; **they are zeroed**, also where the call fails (each one
 * that is a Uint8Array). `body` is a new buffer with the same JSON in which each character of the member's text but its
 * padding reads "A", so that it still parses to as many bytes. The object is scanned, not searched: only a member of
 * the outermost object is imported, and it may stand there once. Texts of its members whose names differ from `member`
 * in case alone read "A" too: a mistake in the name does not make them less secret.
 * @param redactInner Whether the text of such a member of an inner object reads "A" too, all of it. Left out: it stays
 * as it is.
 * @returns `key` is undefined where the object has no such member
 * @throws `ERR_ARGUMENT` not JSON as far as the scan reads, the member twice, not a string, not base64, too long;
 * chunks too long
 */
export function keyImportJson(
  chunks: readonly Uint8Array[],
  member: string,
  redactInner?: boolean,
): { key: KeyHandle | undefined; body: Buffer };

/** Decodes base64 text into the vault and overwrites the text with "A", whatever happens. @throws `ERR_ARGUMENT` */
export function keyImportBase64(text: Uint8Array): KeyHandle;

/**
 * Reads a file of exactly `byteLength` bytes straight into the vault. @throws `ERR_IO`, `ERR_ARGUMENT` (another length,
 * not open for reading)
 */
export function keyReadFile(fd: number, byteLength: number): KeyHandle;
/**
 * Writes the key's bytes to offset 0 of `fd` and fsyncs. For the embedded KMS's root key only; a volume key is refused.
 * @throws `ERR_IO`, `ERR_KEY_GONE`, `ERR_ARGUMENT` (also where `fd` is not open for writing)
 */
export function keyWriteFile(fd: number, key: KeyHandle): void;

export function keyByteLength(key: KeyHandle): number;

/**
 * Writes the key's standard base64 text (4 * ceil(n / 3) bytes) into `target` at `startByte`: how the KMS server
 * answers a caller outside this process. `target` must be longer than 64 bytes (a shorter array lives on V8's heap) and
 * is the caller's to zero. A key made a volume key by `xtsPrepare` is refused. @throws `ERR_ARGUMENT`, `ERR_KEY_GONE`
 */
export function keyRevealBase64(key: KeyHandle, target: Uint8Array, startByte: number): void;
/**
 * The same into the body of a request to KMS (Encrypt). @returns SHA-256 of the body, which a signature needs: the hash
 * of Node would have parts of the key on the heap @throws `ERR_ARGUMENT`, `ERR_KEY_GONE`, `ERR_MEMORY_LOCK`
 */
export function keyIntoRequest(key: KeyHandle, body: Uint8Array, startByte: number): Buffer;

/** HMAC-SHA-256 (FIPS 198-1) of `message` under the key: 32 bytes. Keys of up to 64 bytes. */
export function keyHmac(key: KeyHandle, message: Uint8Array): Buffer;
/** A new vault key: HMAC-SHA-256(key, label), 32 bytes. */
export function keyDerive(key: KeyHandle, label: Uint8Array): KeyHandle;
/**
 * PBKDF2 (RFC 8018) with the key as password and HMAC of `hash`: 1 to 64 bytes. 1 to 10,000,000 iterations. Blocks for
 * about 0.3 us each.
 */
export function keyPbkdf2(key: KeyHandle, salt: Uint8Array, iterations: number, hash: LuksHash, byteCount: number): Buffer;

/**
 * A hash of a LUKS header: of its checksum, of a volume key's digest, and of PBKDF2 and the anti-forensic splitter of a
 * keyslot.
 */
export type LuksHash = 'sha1' | 'sha256' | 'sha384' | 'sha512';
/** The digest of bytes that are no secret, without node:crypto, which takes 5 ms to load. */
export function publicDigest(hash: LuksHash, bytes: Uint8Array): Buffer;

/**
 * AES-256-GCM (NIST SP 800-38D) of vault key `payload` under the 32-byte vault key `master`: 12-byte random IV,
 * ciphertext, 16-byte tag. A volume key is no payload.
 */
export function keySeal(master: KeyHandle, payload: KeyHandle, aad: Uint8Array): Buffer;
/**
 * Opens what `keySeal` made, straight into the vault. @returns undefined where the tag does not hold (wrong key, AAD or
 * bytes)
 */
export function keyOpen(master: KeyHandle, sealed: Uint8Array, aad: Uint8Array): KeyHandle | undefined;

// ---- keyslots: passphrases that open a volume key ----

/**
 * A new recovery key (native/vault/recovery_key.h): the vault key is its text of 80 characters, 256 bits and a
 * checksum. @throws `ERR_MEMORY_LOCK`
 */
export function recoveryKeyGenerate(): KeyHandle;
/**
 * Reads a recovery key from the file or pipe `fd`, up to its end, in any case and with any spaces and hyphens; the
 * vault key is its text as `recoveryKeyGenerate` writes it. Blocks. @throws `ERR_ARGUMENT` (it is none, or was
 * mistyped: the message goes behind a path), `ERR_IO`
 */
export function recoveryKeyRead(fd: number): KeyHandle;
/**
 * Writes the text of a recovery key to `fd`; nothing else is ever written by it. Blocks. @throws `ERR_ARGUMENT`,
 * `ERR_IO`, `ERR_KEY_GONE`
 */
export function recoveryKeyWrite(key: KeyHandle, fd: number): void;
/**
 * Writes the 32 or 64 bytes of a volume key to the open pipe, socket or file `fd`: for `volseal volume-key`, which
 * hands the key to another program. Blocks. @throws `ERR_ARGUMENT` (no volume key, a terminal), `ERR_IO`,
 * `ERR_KEY_GONE`
 */
export function volumeKeyHandOver(key: KeyHandle, fd: number): void;
/**
 * Reads a passphrase of 1 to 512 bytes from the file or pipe `fd`, up to its end; one line end at its end is not part
 * of it. Blocks.
 * @throws `ERR_ARGUMENT` (the message goes behind a path), `ERR_IO`
 */
export function passphraseRead(fd: number): KeyHandle;
/**
 * How many iterations of PBKDF2-HMAC-SHA-512 take this processor about `milliseconds` (1 to 60,000). Blocks for about
 * 0.2 s.
 */
export function passphraseIterations(milliseconds: number): number;
/**
 * The area of a LUKS2 keyslot in which the passphrase opens the volume key, of 64 or 32 bytes: 4000 stripes (LUKS1's
 * anti-forensic splitter) in AES-XTS under PBKDF2 of the passphrase. 4000 times the bytes of the volume key. 1 to
 * 100,000,000 iterations; blocks for about 0.6 us each.
 * @param slotKeyBytes of the area's own key: 64 for AES-256, 32 for AES-128
 * @throws `ERR_ARGUMENT`, `ERR_KEY_GONE`, `ERR_SELF_TEST`
 */
export function keyslotSeal(
  passphrase: KeyHandle,
  volumeKey: KeyHandle,
  kdfHash: LuksHash,
  salt: Uint8Array,
  iterations: number,
  afHash: LuksHash,
  slotKeyBytes: number,
): Buffer;
/**
 * What the passphrase makes of a keyslot's area of 256,000 or 128,000 bytes: 64 or 32 bytes, of which only the volume's
 * digest tells whether they are its key.
 * @throws as `keyslotSeal`
 */
export function keyslotOpen(
  passphrase: KeyHandle,
  area: Uint8Array,
  kdfHash: LuksHash,
  salt: Uint8Array,
  iterations: number,
  afHash: LuksHash,
  slotKeyBytes: number,
): KeyHandle;

/** Wipes the slot; waits for uses under way. @returns false where the handle was gone already */
export function keyWipe(key: KeyHandle): boolean;

// ---- AES-XTS ----

/** A kernel of the cipher, by its instruction set. */
export type KernelName = 'vaes512' | 'vaes256' | 'aesni' | 'armv8' | 'portable';

/** A kernel, and whether this machine can run it. */
export interface KernelInfo {
  /** What `useKernel` and `VOLSEAL_KERNEL` take. */
  name: KernelName;
  /** Bits of the vectors it works in. */
  vectorBits: number;
  /** Whether this processor and its operating system can run it. */
  usable: boolean;
  /** The one that does the work: the first usable one, unless another was forced. */
  inUse: boolean;
  /** Why it is usable or not, or stands where it stands in the order: a phrase for people. */
  reason: string;
}

/** Every kernel there is, in the order of preference on this machine. */
export function xtsKernels(): KernelInfo[];

/**
 * Forces a kernel, in the whole process and from the next call on; "" goes back to the fastest.
 * @throws `ERR_ARGUMENT` no such kernel, or this machine cannot run it (the message says why)
 */
export function xtsUseKernel(name: string): void;

/**
 * The power-on self-test: known answers on every usable kernel, run once for the process (about 6 ms). Whatever uses a
 * volume key or a master key does it itself.
 * @throws `ERR_SELF_TEST`
 */
export function xtsSelfTest(): void;

/**
 * Makes a 64-byte (AES-256) or 32-byte (AES-128) vault key a volume key: expands its round keys into the same locked
 * page. Doing it again changes nothing. @throws `ERR_ARGUMENT` another length, or equal key halves (compared in
 * constant time); `ERR_SELF_TEST` a kernel gave wrong known answers: no key is used on this machine
 */
export function xtsPrepare(key: KeyHandle): void;

/**
 * Transforms whole sectors: from `source` to `target` (same length; the same memory or no overlap), or in place where
 * `target` is left out, which is the shorter call. `firstUnit` is the first sector's number in 512-byte units. `kernel`
 * forces a kernel by name (tests, benchmarks).
 * @throws `ERR_ARGUMENT`, `ERR_KEY_GONE`
 */
export function xtsTransform(
  key: KeyHandle,
  encrypt: boolean,
  sectorBytes: number,
  firstUnit: number,
  source: Uint8Array,
  target?: Uint8Array,
  kernel?: string,
): void;

// ---- measuring: what benchmarks compare the cipher with ----

/** CPU time of the calling thread (CLOCK_THREAD_CPUTIME_ID), in nanoseconds: other tenants' time does not count. */
export function threadCpuNs(): number;

/**
 * What the AES units can do at all: passes `byteLength` bytes (rounded up to whole steps of 12 vectors; at most 2^32)
 * through the 14 rounds of AES-256 in that kernel's vectors, in registers alone. @throws `ERR_ARGUMENT` also for the
 * portable kernel, which has no such limit
 */
export function xtsRoundsOnly(kernel: string, byteLength: number): void;

/**
 * How many bytes behind the start of a page of 4096 bytes `bytes` begins: Node's large Buffers do by 16, and 512-bit
 * vectors there cross a cache line each time.
 */
export function pageOffset(bytes: Uint8Array): number;

/** memcpy(3). Same length, no overlap. @throws `ERR_ARGUMENT` */
export function copyBytes(source: Uint8Array, target: Uint8Array): void;

/**
 * Copies with the stores past the caches that this kernel uses: a multiple of 512 bytes, no overlap; `target` at an
 * address that is a multiple of 16.
 * @throws `ERR_ARGUMENT` also where the kernel has no such stores
 */
export function streamCopy(kernel: string, source: Uint8Array, target: Uint8Array): void;

// ---- engine: sectors of a file ----

/**
 * Takes the lock (flock(2)) of the open file `fd`, exclusive or shared, without waiting; closing every descriptor of
 * that open file, `deviceOpen`'s included, releases it. @throws `ERR_STATE_BUSY`, `ERR_IO`
 */
export function fileLock(fd: number, exclusive: boolean): void;

/**
 * Whether another open file has a record lock (fcntl(2)) on the file `fd`, which is open for writing: qemu locks what
 * it uses like that. False also where the file system has no such locks.
 */
export function fileHasRecordLock(fd: number): boolean;

/**
 * Whether the file system has no data for some byte of a range of the open file `fd`: it reads as zeros, and takes no
 * room. False for what cannot say it: a block device, some file systems. @throws `ERR_ARGUMENT`, `ERR_IO`
 */
export function fileHasHole(fd: number, offsetBytes: number, lengthBytes: number): boolean;

/**
 * Whether so many bytes of the open file `fd` may fit into its file system: what the file takes there already, and what
 * is free (statvfs(3)). True also where that is not known, and for a block device. @throws `ERR_ARGUMENT`
 */
export function fileHasRoom(fd: number, lengthBytes: number): boolean;

/**
 * Calls `open`, which opens an LMDB store with the lock file `lockPath`, and has this process hold a lock on that file
 * from then on: without it, LMDB destroys the store's mutexes where one process closes it while another opens it.
 * Stores of any number of threads; each calls it at every opening.
 * @returns an id for `storeClosed`, one for each call @throws what `open` throws; `ERR_IO` where the lock file cannot
 * be opened: the store is open all the same
 */
export function openStore(lockPath: string, open: () => void): number;

/**
 * The caller has closed a store. @param id from `openStore` @throws `ERR_ARGUMENT` it names no store that is open: a
 * wrong number, or one that was given before
 */
export function storeClosed(id: number): void;

/** What the symbolic link `fd` (open with O_PATH and O_NOFOLLOW) leads to. @throws `ERR_IO` it is no link */
export function fileLinkTarget(fd: number): string;

/**
 * Gives the file `to` the owner, group, mode, access control list and extended attributes of the file `from`, as far as
 * this process may. Rights of the old group are not given to another one.
 * @returns what could not be kept, by its name in stat(2) or xattr(7) @throws `ERR_IO`
 */
export function fileCopyAttributes(from: number, to: number): string[];

/** Whether `fd` is a block device that takes no writes (BLKROGET). @throws `ERR_IO` */
export function fileIsReadOnlyDevice(fd: number): boolean;

/**
 * This thread, as `handleGive` knows it. What a thread has opened (keys, devices, transforms, moves) is wiped and
 * closed when its environment ends, as when a worker_thread is terminated.
 */
export function environmentId(): number;

/**
 * The handle belongs to the thread `owner` from now on, and ends with that one. Where `owner` has ended, what the
 * handle names is released.
 * @returns whether `owner` has it
 */
export function handleGive(handle: KeyHandle | DeviceHandle | TransformHandle | MoveHandle, owner: number): boolean;

/**
 * Bytes of the open regular file or block device `fd`. @throws `ERR_ARGUMENT` (a directory, a pipe, not open for
 * reading), `ERR_IO`
 */
export function fileSize(fd: number): number;

/** A range of a device's sectors, in one file. */
export interface DeviceRegion {
  /** An open regular file or block device; duplicated, so the caller may close it. */
  fd: number;
  /**
   * A key that `xtsPrepare` has seen; wiping it ends every later read and write with `ERR_KEY_GONE`. Undefined: the
   * sectors are plaintext.
   */
  key: KeyHandle | undefined;
  /** Where it begins in the file, a multiple of 512. */
  offsetBytes: number;
  /** A multiple of `sectorBytes`; the file must hold them. */
  sizeBytes: number;
}

export interface DeviceOptions {
  /** One behind the other, 1 to 16; more than one in the middle of a job in place. */
  regions: DeviceRegion[];
  sectorBytes: number;
  writable: boolean;
  /** The volume is sparse: a sector whose ciphertext is all zeros, a hole for instance, reads as zeros. */
  sparse: boolean;
}

/** A piece of a device. */
export interface DeviceExtent {
  /** Where it begins. */
  offsetBytes: number;
  /** Its length. */
  lengthBytes: number;
  /** It is known to read as zeros, and takes no room. Other pieces may hold zeros as well. */
  zero: boolean;
}

/**
 * Requests on the device are served by threads of the engine, which run while a device is open. A device that is still
 * open when the JavaScript thread that opened it ends is closed. @throws `ERR_ARGUMENT` (also where the file is too
 * short or not open for writing), `ERR_IO`, `ERR_KEY_GONE`
 */
export function deviceOpen(options: DeviceOptions): DeviceHandle;
/**
 * `lengthBytes` of plaintext at `offsetBytes`, in an array of the caller's: any offset, any length. Sees each sector
 * whole: before or after a write of this device's, unless that write failed; a length above 1 MiB is several requests.
 * Rejects with `ERR_ARGUMENT` (outside the volume), `ERR_IO`, `ERR_KEY_GONE`, `ERR_STATE_DETACHED`
 */
export function deviceRead(device: DeviceHandle, offsetBytes: number, lengthBytes: number): Promise<Uint8Array<ArrayBuffer>>;
/**
 * As `deviceRead`, into memory of the caller's, which is not to be used until the promise settles. A SharedArrayBuffer
 * is read into directly; other memory gets a copy at the end, so that it may be detached meanwhile. Rejects as
 * `deviceRead`; `ERR_ARGUMENT` also where `target` was detached or resized meanwhile
 */
export function deviceReadInto(device: DeviceHandle, offsetBytes: number, target: Uint8Array): Promise<void>;
/**
 * Writes plaintext at `offsetBytes`: any offset, any length. Part sectors are read, changed and written under a range
 * lock, so that two writes of this device that share a sector lose neither one's bytes (two devices on one file know
 * nothing of each other: lock the file). `source` is copied at once. Rejects as `deviceRead`, and
 * `ERR_STATE_READ_ONLY`, `ERR_STATE_POISONED`
 */
export function deviceWrite(device: DeviceHandle, offsetBytes: number, source: Uint8Array): Promise<void>;
/** As one `deviceWrite` of all sources, one behind the other. Rejects as `deviceWrite` */
export function deviceWritev(device: DeviceHandle, offsetBytes: number, sources: readonly Uint8Array[]): Promise<void>;
/**
 * fdatasync(2), one for all flushes that wait at the same time. Its failure fails them all and poisons the device: no
 * later write or flush succeeds.
 */
export function deviceFlush(device: DeviceHandle): Promise<void>;
/**
 * From now on the range reads as zeros: any offset, any length. Sparse: whole sectors become holes (where neither file
 * system nor device takes that, zeros). Otherwise: zeros are encrypted and written. Rejects as `deviceWrite`
 */
export function deviceZero(device: DeviceHandle, offsetBytes: number, lengthBytes: number): Promise<void>;
/**
 * The range's contents are not needed any more. Sparse: whole sectors become holes and read as zeros, part sectors
 * stay. Otherwise: nothing happens, so that nobody sees which sectors are in use. Rejects as `deviceWrite`
 */
export function deviceTrim(device: DeviceHandle, offsetBytes: number, lengthBytes: number): Promise<void>;
/**
 * Sparse: writes the ciphertext of zeros into every sector whose ciphertext is all zeros, so that the range reads the
 * same whether the volume counts as sparse or not. Whole sectors only. Otherwise: nothing happens. Rejects as
 * `deviceWrite`
 */
export function deviceFill(device: DeviceHandle, offsetBytes: number, lengthBytes: number): Promise<void>;
/**
 * Where the range is known to be zeros: pieces without gaps from `offsetBytes` on, of alternating `zero`, `countMax` (1
 * to 65536) at most: where they end before the range does, ask again. A device that is not sparse is one piece that is
 * not zero. Rejects as `deviceRead`
 */
export function deviceExtents(device: DeviceHandle, offsetBytes: number, lengthBytes: number, countMax: number): Promise<DeviceExtent[]>;
/**
 * Waits for requests under way, blocking the thread, then closes. The key is the caller's to wipe. @returns false where
 * it was closed already
 */
export function deviceClose(device: DeviceHandle): boolean;

/** A device whose ciphertext is fetched, block by block, by the thread that opens it. It is read only. */
export interface CachedDeviceOptions {
  /** A key that `xtsPrepare` has seen. */
  key: KeyHandle;
  /** Bytes of what is fetched: the whole object. */
  sourceBytes: number;
  /** Where the sectors begin in it, a multiple of 512. */
  offsetBytes: number;
  /** Bytes of the sectors, a multiple of `sectorBytes`. */
  sizeBytes: number;
  sectorBytes: number;
  /** As of `DeviceOptions`. */
  sparse: boolean;
  /** Bytes that are fetched at once, at most 64 MiB; the last block is shorter. */
  blockBytes: number;
  /** Blocks of ciphertext that are kept, 1 to 65536. */
  blocksMax: number;
}

/**
 * As `deviceOpen`. Reads that find a block missing wait for it; eight of them at a time, of all devices together.
 * @param fetch called with the index of a block; `cachedDeviceStored` or `cachedDeviceFailed` answers, once for each
 * call. It keeps the thread alive only while a read waits
 */
export function cachedDeviceOpen(options: CachedDeviceOptions, fetch: (index: number) => void): DeviceHandle;
/**
 * The block is there; `bytes` are copied. @throws `ERR_ARGUMENT` it was not asked for, or has another length;
 * `ERR_STATE_DETACHED`
 */
export function cachedDeviceStored(device: DeviceHandle, index: number, bytes: Uint8Array): void;
/**
 * The block could not be fetched: reads that wait for it fail with `ERR_IO` and this message. Later ones ask for it
 * again. @throws `ERR_STATE_DETACHED`
 */
export function cachedDeviceFailed(device: DeviceHandle, index: number, message: string): void;

/** A regular file or block device that holds an image or a volume's data. */
export interface TransformFile {
  kind: 'file';
  /** Open file; duplicated, so the caller may close it. */
  fd: number;
  /** Where the image or the data begins in the file. */
  offsetBytes: number;
  /** Bytes of the image or the data. */
  sizeBytes: number;
  /**
   * As source: the volume is sparse, so a sector of zeros is zeros, not ciphertext; not for `encrypt`. As target:
   * 4096-byte blocks of plaintext zeros are not written; only where the file reads as zeros there.
   */
  sparse: boolean;
  /** As target of `decrypt`, with `sparse`: they are discarded, so that a device reads as zeros there afterwards. */
  discard?: boolean;
}

/**
 * A volume with keys of its own, which is decrypted on the way: under another key as source of `encrypt`, in the middle
 * of a job in place as that of `decrypt` and `compare`.
 */
export interface TransformVolume {
  kind: 'volume';
  /** One behind the other, 1 to 16. */
  regions: DeviceRegion[];
  /** For `decrypt` and `compare` that of the transform. */
  sectorBytes: number;
  /** Bytes of the image for `encrypt`, whole sectors else; the regions hold whole sectors of it. */
  sizeBytes: number;
  /** A sector of zeros is zeros, not ciphertext. */
  sparse: boolean;
}

/** A pipe, socket, terminal, or file from its current position: read or written once and in order. */
export interface TransformStream {
  kind: 'stream';
  fd: number;
  /** Bytes of the image. A source must end after them. */
  sizeBytes: number;
}

/** `encrypt` only: the plaintext of a new volume. */
export interface TransformZeros {
  kind: 'zeros';
  sizeBytes: number;
}

export type TransformSource = TransformFile | TransformVolume | TransformStream | TransformZeros;
/** A stream that is written. */
export interface TransformTargetStream extends TransformStream {
  /** Written before the image's bytes, 16 MiB at most: the header of a volume. Copied at once. */
  preamble?: Uint8Array;
}

export type TransformTarget = TransformFile | TransformTargetStream;

/**
 * The sizes of both sides differ by less than one sector: what the source lacks counts as zeros, and of the last sector
 * only the target's bytes are written. A stream can be the source of `encrypt`, and the target of `encrypt` and
 * `decrypt`.
 */
export interface TransformOptions {
  /** A key that `xtsPrepare` has seen. Not used where a `volume` is decrypted, which has keys of its own. */
  key: KeyHandle;
  /** `compare` decrypts the source and looks where the target differs; the target is only read. */
  mode: 'encrypt' | 'decrypt' | 'compare';
  sectorBytes: number;
  source: TransformSource;
  target: TransformTarget;
  /**
   * Where to begin, a multiple of 1 MiB: an earlier transform has done what lies before. 0 where one side is a stream.
   */
  startByte: number;
  /** Hashes the plaintext of the image on the way. `startByte` must be 0. */
  digest: boolean;
}

/** How far a transform has come. */
export interface TransformProgress {
  /** Bytes of the image that are done, in whatever order. */
  doneBytes: number;
  /** Everything before this byte is done: written, though perhaps not yet on the disk. */
  safeBytes: number;
}

/**
 * Opens a transform of a whole image: encrypt reads the source and pads it to the target's size with zeros, decrypt
 * reads the source (whole sectors) and writes the target's bytes. Uses O_DIRECT where the file system takes it and the
 * page cache does not hold the source already. Unless the target is sparse, its room on the disk is reserved at once,
 * so that a full disk (ENOSPC) is known before the work.
 * @throws `ERR_ARGUMENT`, `ERR_IO`, `ERR_KEY_GONE`
 */
export function transformOpen(options: TransformOptions): TransformHandle;
/**
 * Works on the image with `threadCount` threads (1 to 16) for about `milliseconds`, or until a call of another thread
 * has failed. Any number of calls may run side by side: they share what is left.
 * @returns whether there is more to do
 * @throws `ERR_IO` (also `ENODATA`, `EFBIG`: a stream ends before the image does, or continues after it),
 * `ERR_KEY_GONE`, `ERR_ABORTED` (stopped), `ERR_ARGUMENT` (also a handle that was closed: so do the calls below)
 */
export function transformRun(transform: TransformHandle, threadCount: number, milliseconds: number): boolean;
export function transformProgress(transform: TransformHandle): TransformProgress;
/** Ends calls under way within 100 ms, those that wait for a pipe too. */
export function transformStop(transform: TransformHandle): void;
/**
 * SHA-256 of the image's plaintext, once all is done; the same at each call. @throws `ERR_ARGUMENT` it was not asked
 * for, or is not complete
 */
export function transformDigest(transform: TransformHandle): Buffer;
/**
 * Of a `compare`: where the first difference found so far begins (the first of all once all is done), undefined where
 * there is none.
 */
export function transformDifference(transform: TransformHandle): number | undefined;
export function transformClose(transform: TransformHandle): boolean;

// ---- in place: an image that is encrypted, decrypted or re-encrypted where it is ----

/** One of the two forms of the image in its file. */
export interface MoveForm {
  /** Where the image begins. */
  offsetBytes: number;
  /** A key that `xtsPrepare` has seen; undefined: plaintext. */
  key: KeyHandle | undefined;
}

/**
 * From the low form to the high one and back, part after part: each part is taken, and goes into a slot of the journal,
 * always encrypted, or only its marks do; then it is put into its new place.
 */
export interface MoveOptions {
  /** Open for reading and writing; both are duplicated. */
  imageFd: number;
  journalFd: number;
  /** Where the two slots are in the journal; each has room for `partBytes`, or with `marks` for a 32nd of it. */
  slotOffsets: readonly [number, number];
  /** A number of MiB, 256 at most. */
  partBytes: number;
  /** Whole sectors. */
  imageBytes: number;
  sectorBytes: number;
  /** Sectors of zeros stay zeros in every form. */
  sparse: boolean;
  /** The image keeps its place, and the journal holds marks of its parts: 16 bytes of ciphertext of each 512. */
  marks: boolean;
  low: MoveForm;
  /** Does not begin before the low form, and not more than `partBytes` behind it. */
  high: MoveForm;
}

export interface MovePart {
  /** In the image, a multiple of `partBytes`. */
  startByte: number;
  lengthBytes: number;
  slot: 0 | 1;
}

/** Sets room aside for all that will be written. @throws `ERR_ARGUMENT`, `ERR_IO`, `ERR_KEY_GONE` */
export function moveOpen(options: MoveOptions): MoveHandle;
/**
 * Takes one part and puts another, of the other slot, with `threadCount` threads (1 to 16); both are flushed when this
 * returns.
 * @returns the digest of what was taken, undefined where nothing was @throws `ERR_IO`, `ERR_KEY_GONE`, `ERR_ARGUMENT`
 */
export function moveRun(
  move: MoveHandle,
  direction: 'toHigh' | 'toLow',
  take: MovePart | undefined,
  put: MovePart | undefined,
  threadCount: number,
): Buffer | undefined;
/**
 * Reads what an earlier process has taken in that direction, so that it can be put.
 * @param sha256 its digest
 * @throws `ERR_RESUME` the journal does not hold it, or 512 bytes on the disk are in neither form; `ERR_IO`,
 * `ERR_KEY_GONE`, `ERR_ARGUMENT`
 */
export function moveReadBack(move: MoveHandle, direction: 'toHigh' | 'toLow', part: MovePart, sha256: Uint8Array): void;
/** Whether the file holds no data for a part that is to be taken. */
export function moveIsHole(move: MoveHandle, direction: 'toHigh' | 'toLow', part: MovePart): boolean;
export function moveClose(move: MoveHandle): boolean;

/** A part that a job has taken and perhaps not yet put; the journal holds its marks. */
export interface PendingPartOptions {
  imageFd: number;
  journalFd: number;
  /** An empty file. */
  targetFd: number;
  /** Where the image begins in its file. */
  offsetBytes: number;
  startByte: number;
  lengthBytes: number;
  /** Where its marks are in the journal. */
  slotOffset: number;
  /** Of its marks: SHA-256 over the SHA-256 of those of each MiB. */
  sha256: Uint8Array;
  /** The key of the form that the marks are of; `xtsPrepare` has seen it. */
  marked: KeyHandle;
  /** That of the other form; undefined: plaintext. */
  other: KeyHandle | undefined;
  sectorBytes: number;
  sparse: boolean;
}

/**
 * Writes the part into the target, all of it in the marked form. Changes neither image nor journal.
 * @throws as `moveReadBack`
 */
export function pendingPartRebuild(options: PendingPartOptions): void;
/** An empty file in memory (memfd_create), for ciphertext. @returns its descriptor, the caller's @throws `ERR_IO` */
export function memoryFileOpen(): number;

// ---- nbd: attached volumes for clients of the NBD protocol ----

/** Where a server listens, or its one client is. Descriptors are the server's from then on. */
export type NbdEndpoint =
  | { kind: 'unix'; path: string }
  | { kind: 'tcp'; address: string; port: number }
  | { kind: 'listening'; fd: number }
  | { kind: 'connected'; fd: number };

/** A device under a name. */
export interface NbdExport {
  name: string;
  description: string;
  device: DeviceHandle;
  readOnly: boolean;
}

export interface NbdOptions {
  endpoint: NbdEndpoint;
  /** 1 to 1024, with different names. */
  exports: readonly NbdExport[];
  /** 1 to 64. */
  connectionsMax: number;
  /** Paths of PEM files, or of a file with lines `identity:hexadecimal` (`psk`). */
  tls?:
    | { certificate: string; key: string; clientCa?: string | undefined; allowedNames?: readonly string[] | undefined }
    | { psk: string }
    | undefined;
}

/** Something that happened to a server. */
export interface NbdEvent {
  /** `error`: a volume failed a request, or no client could be taken. `close`: the last one. */
  kind: 'connect' | 'disconnect' | 'error' | 'close';
  /** Counts a server's clients from 1 on; 0 where it is nobody's. */
  client: number;
  exportName: string;
  /** By which TLS knows the client. */
  identity: string;
  /** As the addon throws them. Of `disconnect`: why the client is gone, where it did not leave by itself. */
  error?: Error;
}

/** Counts since the start of a server, of all its clients; `connections`: now. */
export interface NbdNumbers {
  connections: number;
  connectionsTotal: number;
  connectionsRefused: number;
  requests: number;
  errors: number;
  bytesRead: number;
  bytesWritten: number;
  latencies: Record<NbdRequestKind, NbdLatencies>;
}

export type NbdRequestKind = 'read' | 'write' | 'flush' | 'trim' | 'cache' | 'writeZeroes' | 'blockStatus';

/** How long the requests of one kind took, from the request's arrival until its reply is ready to be sent. */
export interface NbdLatencies {
  /** How many: element i those of up to 2^i microseconds that no earlier one has, the last (of 25) all longer ones. */
  counts: number[];
  /** All of them together. */
  seconds: number;
}

/**
 * Starts a server, which listens once this comes back and keeps the process alive. `listener` is called in this thread.
 * A unix socket that nobody listens on is replaced.
 * @returns the server, the caller's to release after its event `close`; the port of TCP
 * @throws `ERR_ARGUMENT` (also certificates and keys), `ERR_IO`, `ERR_STATE_BUSY` (somebody listens there),
 * `ERR_STATE_DETACHED`
 */
export function nbdServe(options: NbdOptions, listener: (event: NbdEvent) => void): { server: NbdServerHandle; port: number };
export function nbdStats(server: NbdServerHandle): NbdNumbers;
/**
 * Ends the use of a device: its clients are answered what has begun, then they are cut off; `force`: at once. The last
 * device's end is the server's.
 * @returns those clients, of which the event `disconnect` comes, or is on its way
 */
export function nbdDrop(server: NbdServerHandle, device: DeviceHandle, force: boolean): number[];
/**
 * Ends a server; its clients are answered what has begun, for `drainMs` at most. The event `close` says when it is
 * done. Later calls do nothing.
 */
export function nbdStop(server: NbdServerHandle, drainMs: number): void;
/** After `close`. @returns false where it was released already */
export function nbdRelease(server: NbdServerHandle): boolean;
