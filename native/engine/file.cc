#include "engine/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>

namespace volseal::engine {

namespace {

constexpr uint64_t kStatBlockBytes = 512;  // the unit of st_blocks: stat(3type)

int Allocate(int fd, uint64_t offset, uint64_t length) {
  while (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

Status ReadAt(int fd, uint64_t offset, MutableBytes target) {
  while (!target.empty()) {
    const ssize_t count = pread(fd, target.data(), target.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      return SystemFailure(errno, "pread", offset);
    }
    if (count == 0) {
      Status status = SystemFailure(EIO, "pread", offset);
      status.message += " (the file ends here: was it truncated?)";
      return status;
    }
    offset += static_cast<uint64_t>(count);
    target = target.subspan(static_cast<size_t>(count));
  }
  return Ok();
}

bool ReadCachedAt(int fd, uint64_t offset, MutableBytes target) {
  const iovec piece = {.iov_base = target.data(), .iov_len = target.size()};
  // The call itself, its offset in two halves: musl has preadv2 since 1.2.5 only.
  const auto low = static_cast<unsigned long>(offset);
  const auto high = static_cast<unsigned long>(offset >> 32);
  return syscall(SYS_preadv2, fd, &piece, 1UL, low, high, RWF_NOWAIT) == static_cast<long>(target.size());
}

Status WriteAt(int fd, uint64_t offset, Bytes source) {
  while (!source.empty()) {
    const ssize_t count = pwrite(fd, source.data(), source.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      return SystemFailure(errno, "pwrite", offset);
    }
    if (count == 0) return SystemFailure(ENOSPC, "pwrite", offset);
    offset += static_cast<uint64_t>(count);
    source = source.subspan(static_cast<size_t>(count));
  }
  return Ok();
}

Status SyncData(int fd) { return fdatasync(fd) == 0 ? Ok() : SystemFailure(errno, "fdatasync"); }

Result<uint64_t> CheckFile(int fd, Access access) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || flags & O_PATH) return Failure(Code::kArgument, "the file descriptor is not open");
  // Linux appends what is written at an offset there; and unaligned requests fail here.
  if (flags & (O_APPEND | O_DIRECT)) return Failure(Code::kArgument, "the file is open with O_APPEND or O_DIRECT");
  const int mode = flags & O_ACCMODE;
  if (access != Access::kWrite && mode == O_WRONLY) return Failure(Code::kArgument, "the file is not open for reading");
  if (access != Access::kRead && mode == O_RDONLY) return Failure(Code::kArgument, "the file is not open for writing");
  struct stat info {};
  if (fstat(fd, &info) != 0) return SystemFailure(errno, "fstat");
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  if (!S_ISBLK(info.st_mode)) return Failure(Code::kArgument, "the file is neither a regular file nor a block device");
  uint64_t size = 0;
  if (ioctl(fd, BLKGETSIZE64, &size) != 0) return SystemFailure(errno, "ioctl(BLKGETSIZE64)");
  return size;
}

bool HasRoom(int fd, uint64_t length) {
  struct stat info {};
  struct statvfs room {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return true;
  // Without blocks: it has no limit, or does not count.
  if (fstatvfs(fd, &room) != 0 || room.f_blocks == 0 || room.f_frsize == 0) return true;
  const uint64_t there = std::min(length, static_cast<uint64_t>(info.st_blocks) * kStatBlockBytes);
  const uint64_t free_blocks = geteuid() == 0 ? room.f_bfree : room.f_bavail;
  return (length - there) / room.f_frsize <= free_blocks;
}

Status Preallocate(int fd, uint64_t offset, uint64_t length) {
  // fallocate(2) takes all there is before it fails, and whoever else writes there finds a full disk. The first byte
  // shows whether it is done here at all.
  const bool has_room = HasRoom(fd, length);
  int error = Allocate(fd, offset, has_room ? length : 1);
  if (!has_room && error == 0) error = ENOSPC;
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) return SystemFailure(error, "fallocate", offset);
  return Ok();
}

Result<UniqueFd> Duplicate(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return SystemFailure(errno, "fcntl(F_DUPFD_CLOEXEC)");
  return copy;
}

UniqueFd ReopenDirect(int fd, bool writable) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return UniqueFd(open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC));
}

Status Lock(int fd, bool exclusive) {
  while (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    return SystemFailure(errno, "flock", std::nullopt, errno == EWOULDBLOCK ? Code::kBusy : Code::kIo);
  }
  return Ok();
}

bool HasRecordLock(int fd) {
  // A lock of the open file, not of the process: another open file of this very process counts as well.
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

Result<std::string> LinkTarget(int fd) {
  std::string target(PATH_MAX, '\0');
  const ssize_t length = readlinkat(fd, "", target.data(), target.size());
  if (length < 0) return SystemFailure(errno, "readlinkat");
  target.resize(static_cast<size_t>(length));
  return target;
}

}  // namespace volseal::engine
