// A range of a volume's sectors: in one file, under one key. A volume has one; in the middle of a job in place it has
// several, one behind the other.
#pragma once

#include <cstdint>
#include <optional>

#include "vault/vault.h"

namespace volseal::engine {

struct DeviceRegion {
  int fd;                               // duplicated
  std::optional<vault::KeyHandle> key;  // nothing: plaintext
  uint64_t offset_bytes;                // in the file, where it begins
  uint64_t size_bytes;                  // whole sectors
};

}  // namespace volseal::engine
