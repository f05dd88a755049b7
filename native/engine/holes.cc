#include "engine/holes.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/aligned_buffer.h"
#include "engine/file.h"

namespace volseal::engine {
namespace {

Status WriteZeros(int fd, uint64_t offset, uint64_t length) {
  uint8_t* const buffer = ThreadBuffer();
  if (!buffer) return SystemFailure(ENOMEM, "aligned_alloc");
  std::memset(buffer, 0, std::min<uint64_t>(length, kBufferBytes));
  while (length > 0) {
    const size_t piece = std::min<uint64_t>(length, kBufferBytes);
    if (Status status = WriteAt(fd, offset, {buffer, piece}); !status.ok()) return status;
    offset += piece;
    length -= piece;
  }
  return Ok();
}

}  // namespace

Result<Extent> NextData(int fd, uint64_t begin, uint64_t end) {
  const off_t data = lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) return Extent{end, end};
    if (errno == EINVAL || errno == EOPNOTSUPP) return Extent{begin, end};
    return SystemFailure(errno, "lseek", begin);
  }
  const uint64_t data_begin = static_cast<uint64_t>(data);
  if (data_begin >= end) return Extent{end, end};
  const off_t hole = lseek(fd, data, SEEK_HOLE);
  // ENXIO: cut off in between. Reading will say so.
  if (hole < 0) return errno == ENXIO ? Result<Extent>(Extent{data_begin, end}) : SystemFailure(errno, "lseek", begin);
  return Extent{data_begin, std::min(static_cast<uint64_t>(hole), end)};
}

Result<bool> HasHole(int fd, uint64_t begin, uint64_t end) {
  auto data = NextData(fd, begin, end);
  if (!data.ok()) return data.status();
  return data.value().begin != begin || data.value().end != end;
}

Status PunchHole(int fd, uint64_t offset, uint64_t length) {
  while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                   static_cast<off_t>(length)) != 0) {
    if (errno == EINTR) continue;
    // No holes here, or (a device) none of so small a piece.
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) return WriteZeros(fd, offset, length);
    return SystemFailure(errno, "fallocate", offset);
  }
  return Ok();
}

}  // namespace volseal::engine
