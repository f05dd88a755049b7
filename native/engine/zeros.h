// Runs of zeros in buffers: what sparse images and sparse volumes leave out.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/status.h"

namespace volseal::engine {

// Blocks of a file system: smaller holes would save nothing.
constexpr size_t kHoleBytes = 4096;

inline bool IsZeros(Bytes bytes) {
  if (bytes.empty()) return true;
  // Compares the bytes with themselves, one further: as fast as memcmp, which stops at the first difference.
  return bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

// Calls visit(start, length) for each run of blocks of `block_bytes` in `bytes` that are all zeros (`zeros`) or are
// not, in order, until one fails. The last block may be shorter.
template <typename Visit>
Status ForEachRun(Bytes bytes, size_t block_bytes, bool zeros, Visit visit) {
  size_t run_start = 0;
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    const size_t length = std::min(block_bytes, bytes.size() - at);
    if (IsZeros(bytes.subspan(at, length)) == zeros) continue;
    if (at > run_start) {
      if (Status status = visit(run_start, at - run_start); !status.ok()) return status;
    }
    run_start = at + length;
  }
  return run_start < bytes.size() ? visit(run_start, bytes.size() - run_start) : Ok();
}

template <typename Visit>
Status ForEachDataRun(Bytes bytes, size_t block_bytes, Visit visit) {
  return ForEachRun(bytes, block_bytes, false, visit);
}

template <typename Visit>
Status ForEachZeroRun(Bytes bytes, size_t block_bytes, Visit visit) {
  return ForEachRun(bytes, block_bytes, true, visit);
}

}  // namespace volseal::engine
