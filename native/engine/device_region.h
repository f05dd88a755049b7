// A range of a volume's sectors: in one file or behind one cache, under one key. A volume has one; in the middle of a
// job in place it has several, one behind the other.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "engine/block_cache.h"
#include "vault/vault.h"

namespace volseal::engine {

struct DeviceRegion {
  int fd;                                  // duplicated; not looked at where there is a cache
  std::optional<vault::KeyHandle> key;     // nothing: plaintext
  uint64_t offset_bytes;                   // in the file, where it begins
  uint64_t size_bytes;                     // whole sectors
  std::shared_ptr<BlockCache> cache = {};  // null: a file. A device with one is not writable
};

}  // namespace volseal::engine
