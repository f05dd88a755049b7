// What clients may know of a volume that is served.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "nbd/wire.h"

namespace volseal::nbd {

struct ExportInfo {
  std::string name = {};         // UTF-8, at most kNameBytesMax
  std::string description = {};  // for people; may be empty
  uint64_t size_bytes = 0;
  uint32_t sector_bytes = 512;
  bool read_only = false;
  bool sparse = false;  // zeroing is fast, and trimming does something

  uint32_t preferred_block_bytes() const { return std::max<uint32_t>(4096, sector_bytes); }
};

// `structured`: the client takes structured replies.
inline uint16_t TransmissionFlags(const ExportInfo& info, bool structured) {
  uint16_t flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn | kSendCache;
  if (structured) flags |= kSendDf;
  if (info.read_only) return flags | kReadOnly;
  flags |= kSendWriteZeroes | kSendFastZero;
  if (info.sparse) flags |= kSendTrim;
  return flags;
}

}  // namespace volseal::nbd
