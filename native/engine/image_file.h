// A regular file or block device that holds an image or a volume: reads and writes of whole pieces, the fastest way
// that the file system has.
//
// O_DIRECT where it is taken. What the page cache holds already is read from there instead: a direct read would go to
// the disk again. What it does not hold stays out of it, so that a large image does not drive out what others use.
#pragma once

#include <cstdint>
#include <memory>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/file.h"
#include "engine/page_cache.h"

namespace volseal::engine {

class ImageFile {
 public:
  ImageFile() = default;  // no file
  // The image begins at `offset_bytes` of the file. kArgument as CheckFile.
  static Result<ImageFile> Open(int fd, uint64_t offset_bytes, Access access);

  // At `position` of the image; errors name the place in the file.
  Status Read(uint64_t position, MutableBytes target) const;
  Status Write(uint64_t position, Bytes source) const;

  // From now on the range reads as zeros; without room where the file system or the device can.
  Status Discard(uint64_t position, uint64_t length) const;

  // The first byte at or after `position` that the file system holds data for; UINT64_MAX where the rest is a hole.
  // Where it cannot say, `position`.
  uint64_t NextData(uint64_t position) const;

  // Sets room aside for the image's `length` bytes.
  Status Reserve(uint64_t length) const { return Preallocate(buffered_.get(), offset_bytes_, length); }
  // Makes a shorter regular file as long as the image's `length` bytes take, with a hole.
  Status Extend(uint64_t length) const;

  bool valid() const { return buffered_.valid(); }
  bool is_regular() const { return is_regular_; }
  // Of the image, when the file was opened.
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  Status WriteBuffered(uint64_t offset, Bytes source) const;

  UniqueFd buffered_;
  UniqueFd direct_;                   // not valid where O_DIRECT is not taken
  std::unique_ptr<PageCache> cache_;  // nothing: not asked; what can be is read direct
  uint64_t offset_bytes_ = 0;
  uint64_t size_bytes_ = 0;
  bool is_regular_ = false;
};

}  // namespace volseal::engine
