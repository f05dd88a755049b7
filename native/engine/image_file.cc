#include "engine/image_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "engine/holes.h"

namespace volseal::engine {
namespace {

// What nearly every O_DIRECT takes: page-sized, page-aligned requests. Where one wants more, the piece goes the
// buffered way.
constexpr uint64_t kDirectAlignment = 4096;

// mincore(2) tells the truth to who owns the file or may write it; to others it says that every page is there.
bool MayAskCache(int fd, const struct stat& info) {
  return info.st_uid == geteuid() || access(("/proc/self/fd/" + std::to_string(fd)).c_str(), W_OK) == 0;
}

}  // namespace

Result<ImageFile> ImageFile::Open(int fd, uint64_t offset_bytes, Access access) {
  ImageFile file;
  // Duplicated first: the caller's number may be another file a moment later.
  auto buffered = Duplicate(fd);
  if (!buffered.ok()) return buffered.status();
  file.buffered_ = std::move(buffered.value());
  auto size = CheckFile(file.buffered_.get(), access);
  if (!size.ok()) return size.status();
  struct stat info {};
  if (fstat(file.buffered_.get(), &info) != 0) return SystemFailure(errno, "fstat");
  file.direct_ = ReopenDirect(file.buffered_.get(), access != Access::kRead);
  file.offset_bytes_ = offset_bytes;
  file.size_bytes_ = size.value() - std::min(size.value(), offset_bytes);
  file.is_regular_ = S_ISREG(info.st_mode);
  if (file.direct_.valid() && MayAskCache(file.buffered_.get(), info))
    file.cache_ = std::make_unique<PageCache>(file.buffered_.get(), size.value());
  return file;
}

Status ImageFile::Read(uint64_t position, MutableBytes target) const {
  const uint64_t offset = offset_bytes_ + position;
  size_t direct_bytes = 0;
  if (direct_.valid() && offset % kDirectAlignment == 0 && !(cache_ && cache_->Holds(offset))) {
    direct_bytes = target.size() / kDirectAlignment * kDirectAlignment;
    Status status = ReadAt(direct_.get(), offset, target.first(direct_bytes));
    if (status.error_number == EINVAL) {
      direct_bytes = 0;
    } else if (!status.ok()) {
      return status;
    }
  }
  return ReadAt(buffered_.get(), offset + direct_bytes, target.subspan(direct_bytes));
}

Status ImageFile::Write(uint64_t position, Bytes source) const {
  const uint64_t offset = offset_bytes_ + position;
  size_t direct_bytes = 0;
  if (direct_.valid() && offset % kDirectAlignment == 0) {
    direct_bytes = source.size() / kDirectAlignment * kDirectAlignment;
    Status status = WriteAt(direct_.get(), offset, source.first(direct_bytes));
    if (status.error_number == EINVAL) {
      direct_bytes = 0;
    } else if (!status.ok()) {
      return status;
    }
  }
  return WriteBuffered(offset + direct_bytes, source.subspan(direct_bytes));
}

Status ImageFile::WriteBuffered(uint64_t offset, Bytes source) const {
  if (source.empty()) return Ok();
  if (Status status = WriteAt(buffered_.get(), offset, source); !status.ok()) return status;
  // Begins the write-back now: else it all waits for the fsync at the end.
  const int failed = sync_file_range(buffered_.get(), static_cast<off_t>(offset), static_cast<off_t>(source.size()),
                                     SYNC_FILE_RANGE_WRITE);
  const bool lost = failed != 0 && (errno == EIO || errno == ENOSPC);
  return lost ? SystemFailure(errno, "sync_file_range", offset) : Ok();
}

Status ImageFile::Discard(uint64_t position, uint64_t length) const {
  return PunchHole(buffered_.get(), offset_bytes_ + position, length);
}

uint64_t ImageFile::NextData(uint64_t position) const {
  if (!is_regular_) return position;
  const off_t found = lseek(buffered_.get(), static_cast<off_t>(offset_bytes_ + position), SEEK_DATA);
  if (found >= 0) return static_cast<uint64_t>(found) - offset_bytes_;
  return errno == ENXIO ? UINT64_MAX : position;
}

Status ImageFile::Extend(uint64_t length) const {
  if (!is_regular_ || size_bytes_ >= length) return Ok();
  const int failed = ftruncate(buffered_.get(), static_cast<off_t>(offset_bytes_ + length));
  return failed == 0 ? Ok() : SystemFailure(errno, "ftruncate", offset_bytes_ + length);
}

}  // namespace volseal::engine
