/** All limits, in one place, each with its reason. */

/** LUKS2 sector sizes. dm-crypt accepts only these. */
export const SECTOR_SIZES = [512, 1024, 2048, 4096] as const;
export type SectorBytes = (typeof SECTOR_SIZES)[number];

/** The unit in which tweaks count, whatever the sector size ("plain64"). */
export const TWEAK_UNIT_BYTES = 512;

/** The partition table of an image counts in 512-byte blocks, so the mapped device must have them too. */
export const DEFAULT_SECTOR_BYTES: SectorBytes = 512;

/** AES-256-XTS: two keys of 32 bytes. volseal makes no other length. */
export const DATA_KEY_BYTES = 64;
/** Lengths it accepts from KMS: AES-256-XTS and AES-128-XTS. */
export const DATA_KEY_LENGTHS: readonly number[] = [64, 32];

/** Two header copies of 16 KiB, and space for keyslots up to 1 MiB, where the data of an embedded volume begins. */
export const HEADER_COPY_BYTES = 16384;
export const EMBEDDED_DATA_OFFSET_BYTES = 1024 * 1024;

/**
 * Header sizes the LUKS2 specification allows (section 2.1): the possible offsets of the second copy if the first is
 * damaged.
 */
export const LUKS2_HEADER_SIZES = [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000] as const;

/** The minimum of cryptsetup for the digest of a volume key. The key is random, so more iterations add nothing. */
export const DIGEST_ITERATIONS = 1000;
/** A forged header must not block an attach for long: ten million iterations take a few seconds. */
export const DIGEST_ITERATIONS_MAX = 10_000_000;

/** AWS KMS: plaintext of Encrypt. */
export const KMS_PLAINTEXT_BYTES_MAX = 4096;
/** AWS KMS: ciphertext blob of Decrypt. */
export const KMS_CIPHERTEXT_BYTES_MAX = 6144;
/** AWS KMS: GenerateDataKey's NumberOfBytes. */
export const KMS_DATA_KEY_BYTES_MAX = 1024;
/** AWS KMS: aliases of one key. */
export const KMS_ALIASES_PER_KEY = 50;
/** AWS KMS: description of a key. */
export const KMS_DESCRIPTION_CHARS_MAX = 8192;
/**
 * The body of a reply of KMS. A page of 100 grants, each with the longest constraints that AWS allows, has about 700
 * kB.
 */
export const KMS_REPLY_BYTES_MAX = 1024 * 1024;
/**
 * An encryption context in the header's token, all keys and values together: the JSON area has 12 KiB for everything.
 */
export const ENCRYPTION_CONTEXT_BYTES_MAX = 4096;
/** Without a reply for this long, KMS counts as unreachable. */
export const KMS_CONNECT_TIMEOUT_MS = 3_000;
export const KMS_REQUEST_TIMEOUT_MS = 10_000;
/** Tries of one call: the AWS SDK's own default, waits between them included in its retry. */
export const KMS_ATTEMPTS = 3;

/** All tries of one call together, and the fetching of credentials before it: then it has failed. */
export const KMS_DEADLINE_MS = 30_000;

/** AWS KMS: all keys and values of an encryption context together. */
export const KMS_CONTEXT_BYTES_MAX = 8192;
/** AWS KMS: grant tokens of one request. */
export const KMS_GRANT_TOKENS_MAX = 10;
/** AWS KMS: length of a key id, an ARN or an alias as a request may name it. */
export const KMS_KEY_ID_CHARS_MAX = 2048;
/** AWS KMS: length of an alias with its prefix. */
export const KMS_ALIAS_CHARS_MAX = 256;
/** AWS KMS: a key policy. */
export const KMS_POLICY_BYTES_MAX = 32 * 1024;
/** AWS KMS: grants on one key. */
export const KMS_GRANTS_PER_KEY = 50_000;
/** AWS KMS: pairs of a grant's constraint, and the length of a value in one. */
export const KMS_CONSTRAINT_PAIRS_MAX = 8;
export const KMS_CONSTRAINT_VALUE_CHARS_MAX = 384;
/** AWS KMS: rotations of a key on demand. */
export const KMS_ROTATIONS_ON_DEMAND_MAX = 25;
/** AWS KMS: tags of a key. */
export const KMS_TAGS_MAX = 50;
/** A request of the KMS server: a key policy, all of it escaped, and room to spare. */
export const KMS_REQUEST_BYTES_MAX = 256 * 1024;
/** AWS: how far the clock of whoever signs a request may be from ours. */
export const KMS_CLOCK_SKEW_MS = 5 * 60 * 1000;
/** How often the KMS server looks for connections over their time: the time-outs are exact to this. */
export const KMS_SERVER_CHECK_INTERVAL_MS = 1_000;
/** How long the KMS server, when it ends, waits for clients that do not read their replies. */
export const KMS_SERVER_CLOSE_GRACE_MS = 2_000;
/** Connections to the KMS server at once: a machine's own tools, not the internet. */
export const KMS_SERVER_CONNECTIONS_MAX = 256;
/** Address space for the embedded KMS's store, some hundred thousand keys or grants; the file grows as they come. */
export const KMS_STORE_BYTES_MAX = 2 * 1024 * 1024 * 1024;

/**
 * What a record of the audit log repeats of a call that was made: a key policy of 32 KiB, all of it escaped, and room
 * to spare.
 */
export const AUDIT_PARAMETERS_BYTES_MAX = 80 * 1024;
/** ... of a call that was refused: anybody with an access key can make those, as long as a request may be. */
export const AUDIT_REFUSED_PARAMETERS_BYTES_MAX = 4 * 1024;
/** ... of a text that a caller chose: user agent, error message, name of an operation. */
export const AUDIT_TEXT_CHARS_MAX = 512;
/** A record of the audit log: parameters, reply, and everything else. */
export const AUDIT_LINE_BYTES_MAX = 128 * 1024;
/** How long a record of a call that changed nothing may wait to be flushed. */
export const AUDIT_FLUSH_INTERVAL_MS = 1_000;
/** How often a log that is followed is looked at for more. */
export const AUDIT_FOLLOW_INTERVAL_MS = 250;

/**
 * Room that a store's file has before a transaction begins: a full disk is found there, not inside LMDB. The longest
 * record of the audit log, as JSON in JSON, is the longest value.
 */
export const STORE_ROOM_BYTES = 512 * 1024;
/** Threads and processes that may read a store at once. LMDB's own default is 126. */
export const STORE_READERS_MAX = 2048;

/** Address space for the store of WorkSpaces, some hundred thousand of them; the file grows as they come. */
export const WORKSPACE_STORE_BYTES_MAX = 1024 * 1024 * 1024;

/** Native threads that work on a whole image: a disk wants several requests at once, and each has a buffer of 2 MiB. */
export const IMAGE_THREADS = 8;
/**
 * One task of a whole-image transform; between two, progress is reported and other work gets its turn. Its threads wait
 * for each other at its end: 50 ms would cost 6 %.
 */
export const IMAGE_SLICE_MS = 200;
/** A resumable job records its progress this often; each record waits for the disk. */
export const CHECKPOINT_INTERVAL_MS = 2_000;
/**
 * What a resumed job begins at a multiple of (the engine's own unit), and how much of what was done it compares with
 * the source.
 */
export const RESUME_UNIT_BYTES = 1024 * 1024;
/**
 * A range of one image that is a job of its own: a smaller one would be over before its key is unwrapped, a larger one
 * is much to do again after a fault. So many ranges of the largest length are 64 TiB.
 */
export const RANGE_BYTES_MIN = 256 * 1024 * 1024;
export const RANGE_BYTES_MAX = 4 * 1024 * 1024 * 1024;
export const RANGES_MAX = 16_384;
/**
 * What a job in place moves at once; its journal has room for two. Each part waits for the disk three times, and 32 MiB
 * make that a small share.
 */
export const IN_PLACE_PART_BYTES = 32 * 1024 * 1024;
/** One step of filling a sparse volume: between two, progress is told and an abort is seen. */
export const FILL_BYTES = 16 * 1024 * 1024;
/** Pieces that one question for a volume's block status gives at most. */
export const EXTENT_COUNT_MAX = 65536;
/** What `volseal read` and `volseal write` hold of a stream at once. */
export const STREAM_PIECE_BYTES = 4 * 1024 * 1024;
/** ... and what of a stored volume is fetched while the reader takes a piece. */
export const STREAM_PIECES_AHEAD = 5;
/**
 * Threads of the pool: as many as there are processors within these bounds. A whole image or a pipe keeps one busy, and
 * attached volumes need another.
 */
export const POOL_THREADS_MIN = 2;
/** More gains nothing: the disk is the limit long before. */
export const POOL_THREADS_MAX = 4;

/** How long the pool's threads wait for another use after the last one. */
export const POOL_LINGER_MS = 1_000;
/** How long a process that exits waits for threads that load native modules, which takes 20 ms. */
export const NATIVE_LOAD_WAIT_MS = 2_000;

/**
 * PBKDF2 of a recovery key, which has 256 random bits: no number of iterations makes it harder to guess. cryptsetup's
 * own minimum.
 */
export const RECOVERY_KEY_ITERATIONS = 1000;
/** PBKDF2 of a passphrase takes this long on the machine where it is added: 2 s, and a margin for the measurement. */
export const PASSPHRASE_MS = 2_500;
/** ... and no fewer iterations than this, on a slow machine: OWASP's number for PBKDF2-HMAC-SHA-512. */
export const PASSPHRASE_ITERATIONS_MIN = 210_000;

/** How long a volume that is detached by force waits for requests of its clients. */
export const DETACH_DRAIN_MS = 5_000;
/**
 * A message between `volseal` and the process that serves a volume. The longest is an order with an encryption context.
 */
export const ATTACHED_MESSAGE_BYTES_MAX = 256 * 1024;
/** Commands that talk to one serving process at once. */
export const ATTACHED_CONNECTIONS_MAX = 16;
/** A serving process that gives no sign of life for this long is listed as not responding. */
export const ATTACHED_STATUS_TIMEOUT_MS = 2_000;
/** A listing holds the lock of a record for a moment, and an attach waits for it this often and this long. */
export const ATTACHED_LOCK_TRIES = 10;
export const ATTACHED_LOCK_WAIT_MS = 20;
/** Attachments of one volume (copies of its file, or several readers) that one user has at once. */
export const ATTACHED_PER_VOLUME_MAX = 64;
/** A client program of the system (nbd-client, nbdfuse) has failed if its device or file is not there after this. */
export const ATTACHED_CLIENT_TIMEOUT_MS = 15_000;

/** 8 EiB less one sector is what a signed 64-bit offset carries; JavaScript's exact integers end at 8 PiB. */
export const VOLUME_BYTES_MAX = 2 ** 53 - 2 ** 21;

/** NBD: clients of a server at once. Each holds up to 2 MiB of buffers: 128 MiB together. */
export const NBD_CONNECTIONS_MAX = 64;
/** NBD: any string of the protocol. */
export const NBD_NAME_BYTES_MAX = 4096;
/** How long an NBD server that ends lets clients take the replies to what has begun. */
export const NBD_DRAIN_MS = 5_000;
export const NBD_DRAIN_MS_MAX = 3_600_000;

/** S3: parts of an upload; with more bytes in one, the buffers of a job would not fit into `STORE_BUFFER_BYTES`. */
export const S3_PARTS_MAX = 10_000;
export const S3_PART_BYTES_MIN = 16 * 1024 * 1024;
export const S3_PART_BYTES_MAX = 48 * 1024 * 1024;
/** What S3 copies in one request (at most 5 GiB), and how many of these are under way at once. */
export const S3_COPY_BYTES = 1024 * 1024 * 1024;
export const S3_COPIES_AT_ONCE = 8;
/** The record of an upload that can be resumed: a header of 32 KiB as base64, and some KiB. */
export const UPLOAD_RECORD_BYTES_MAX = 256 * 1024;
/** What is read of an object at once where its own parts do not decide. */
export const STORE_PIECE_BYTES = 16 * 1024 * 1024;
/** Buffers of a job that reads or writes objects, together; and how many there are at most. */
export const STORE_BUFFER_BYTES = 96 * 1024 * 1024;
export const STORE_BUFFERS_MAX = 8;
/** What is handed to an encrypted connection at once: Node holds as much again, encrypted, until it is sent. */
export const STORE_SLICE_BYTES = 256 * 1024;
/** What a connection to a store is read into at once; Node asks the system for no more. */
export const STORE_READ_BYTES = 64 * 1024;
/** Of a store's reply before its body: Node's own limit. */
export const STORE_REPLY_HEAD_BYTES_MAX = 16 * 1024;
/** Connections to a store at once. */
export const STORE_SOCKETS = 16;
/** An attached volume in a store: ciphertext is fetched in blocks of so many bytes, and so many are kept. */
export const STORE_CACHE_BLOCK_BYTES = 1024 * 1024;
export const STORE_CACHE_BLOCKS = 64;
/** EBS direct APIs: bytes of a block; GiB of a volume; what a snapshot may be given. */
export const EBS_BLOCK_BYTES = 524_288;
export const EBS_VOLUME_GIB_MAX = 65_536;
export const EBS_DESCRIPTION_CHARS_MAX = 255;
export const EBS_TAGS_MAX = 50;
export const EBS_TAG_KEY_CHARS_MAX = 128;
export const EBS_TAG_VALUE_CHARS_MAX = 256;
/** EBS allows 1,000 requests for blocks of a snapshot a second, and nobody gets more: this leaves room for others. */
export const EBS_REQUESTS_PER_SECOND = 900;
/** Requests for blocks at once; each has a block in memory: 24 MiB together. */
export const EBS_REQUESTS_AT_ONCE = 48;
/** Blocks of one page of a listing: the most that EBS gives. */
export const EBS_LIST_BLOCKS = 10_000;
/** What is written to a snapshot at once: eight blocks, and a multiple of a header's area. */
export const EBS_PIECE_BYTES = 4 * 1024 * 1024;
/** EBS cancels a snapshot to which nothing was written for so long. */
export const EBS_TIMEOUT_MINUTES = 60;
/** The same of one that a later run may go on with: a day. EBS allows three. */
export const EBS_RESUMABLE_MINUTES = 24 * 60;
/** EBS may not know a snapshot yet that it has just begun. */
export const EBS_NEW_SNAPSHOT_MS = 120_000;
/** A request to a store is made this often; before each repetition a random wait, up to twice as long each time. */
export const STORE_ATTEMPTS = 6;
export const STORE_BACKOFF_MS = 50;
export const STORE_BACKOFF_MS_MAX = 5_000;
/** Of a store's reply that is no range: pages of 10,000 blocks of a snapshot have 2 MB. */
export const STORE_REPLY_BYTES_MAX = 16 * 1024 * 1024;
/** A store that takes no connection, or sends nothing, for so long has failed. */
export const STORE_CONNECT_MS = 10_000;
export const STORE_SILENCE_MS = 60_000;
