// Files as the engine uses them: whole reads and writes at an offset, and the checks that make a descriptor from
// outside usable.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace volseal::engine {

// Reads exactly target.size() bytes at `offset`; the end of the file before that is a kIo with EIO.
Status ReadAt(int fd, uint64_t offset, MutableBytes target);

// The same of the page cache alone, without waiting for a disk. False where some of it is not there, at the end of the
// file, after any failure, and where the file system cannot tell: then `target` may hold a part. ReadAt says why.
bool ReadCachedAt(int fd, uint64_t offset, MutableBytes target);

// Writes all of `source` at `offset`; a short write goes on where it stopped.
Status WriteAt(int fd, uint64_t offset, Bytes source);

// fdatasync(2).
Status SyncData(int fd);

enum class Access { kRead, kWrite, kReadWrite };

// The size of the regular file or block device behind `fd`; kArgument where it is neither, or not open for `access`, or
// open with O_APPEND or O_DIRECT.
Result<uint64_t> CheckFile(int fd, Access access);

// Whether `length` bytes of the regular file may fit into its file system: what it takes there, and what is free. True
// where that is not known.
bool HasRoom(int fd, uint64_t length);

// Sets room aside for `length` bytes at `offset` of a regular file, so that a full disk says so before the work and not
// after it; what is more than the file system has free takes none of it. Where the file system cannot, nothing is done:
// the writes will tell.
Status Preallocate(int fd, uint64_t offset, uint64_t length);

// A duplicate that closes on exec.
Result<UniqueFd> Duplicate(int fd);

// The same file opened once more with O_DIRECT; not valid() where the file system does not take it.
UniqueFd ReopenDirect(int fd, bool writable);

// flock(2) without waiting; kBusy where another open file holds it.
Status Lock(int fd, bool exclusive);

// Whether another open file has a record lock (fcntl(2)) on any byte of it: qemu locks what it uses like that. False
// where the file system has no such locks. `fd` is open for writing.
bool HasRecordLock(int fd);

// What the symbolic link that `fd` is (O_PATH, O_NOFOLLOW) leads to.
Result<std::string> LinkTarget(int fd);

}  // namespace volseal::engine
