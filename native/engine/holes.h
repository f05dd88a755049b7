// Holes of a file: where it holds no data, and making more of them.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace volseal::engine {

struct Extent {
  uint64_t begin;
  uint64_t end;
};

// The first piece of [begin, end) that the file system holds data for; empty, at `end`, where there is none. What
// cannot say where its holes are (a block device, some file systems) is data throughout.
Result<Extent> NextData(int fd, uint64_t begin, uint64_t end);

// Whether the file system says of any byte of [begin, end) that it holds no data for it.
Result<bool> HasHole(int fd, uint64_t begin, uint64_t end);

// Makes `length` bytes at `offset` read as zeros. Their room goes back to the file system or the device where it takes
// it; where not, zeros are written.
Status PunchHole(int fd, uint64_t offset, uint64_t length);

}  // namespace volseal::engine
