// A volume as the source of a whole image: its sectors are decrypted as they are read, each by the key of its region.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/device_region.h"
#include "engine/image_file.h"
#include "vault/vault.h"
#include "xts/xts.h"

namespace volseal::engine {

class VolumeSource {
 public:
  VolumeSource() = default;  // no volume
  // `regions` one behind the other; they hold `needed_bytes` at least. `sparse`: a sector whose ciphertext is all
  // zeros, a hole for instance, is zeros. kArgument as CheckFile; kKeyGone.
  static Result<VolumeSource> Open(const std::vector<DeviceRegion>& regions, uint32_t sector_bytes, bool sparse,
                                   uint64_t needed_bytes);

  // The plaintext at `position`; both are whole sectors. What the file system has no data for counts as zeros on the
  // disk. Errors name the place in the file.
  Status Read(uint64_t position, MutableBytes target) const;
  // The first byte at or after `position` that the file system holds data for; UINT64_MAX where the rest is a hole.
  // Where it cannot say, `position`.
  uint64_t NextData(uint64_t position) const;

  bool valid() const { return !regions_.empty(); }
  uint32_t sector_bytes() const { return sector_bytes_; }

 private:
  struct Region {
    ImageFile file;
    std::optional<vault::KeyHandle> key;
    uint64_t begin;  // in the volume
    uint64_t end;
  };

  Status ReadRegion(const Region& region, uint64_t position, MutableBytes target) const;
  void Decrypt(const xts::KeySchedule& key, uint64_t position, MutableBytes sectors) const;

  std::vector<Region> regions_;
  uint32_t sector_bytes_ = 0;
  bool sparse_ = false;
};

}  // namespace volseal::engine
