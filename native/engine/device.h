// An attached data segment: plaintext reads and writes at any offset and length over encrypted sectors of a file. In
// the middle of a job in place it is several regions, each under a key of its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/device_region.h"
#include "engine/image_file.h"
#include "engine/range_lock.h"
#include "vault/vault.h"
#include "xts/xts.h"

namespace volseal::engine {

constexpr uint32_t kSectorBytesMax = 4096;
constexpr size_t kTryWriteBytesMax = 128 << 10;

struct DeviceOptions {
  std::vector<DeviceRegion> regions;  // one behind the other, not empty
  uint32_t sector_bytes;
  bool writable;
  bool sparse;  // a sector whose ciphertext is all zeros, a hole for instance, reads as zeros
};

// A piece of a device. `zero`: it is known to read as zeros; a piece that is not may hold zeros as well.
struct BlockStatus {
  uint64_t offset;
  uint64_t length;
  bool zero;
};

// Safe from any thread; each call blocks its thread for the I/O. Every sector is seen whole: before a write or after
// it.
class Device {
 public:
  static Result<std::shared_ptr<Device>> Open(DeviceOptions options);

  Status Read(uint64_t offset, MutableBytes target);
  Status Write(uint64_t offset, Bytes source);
  // The same, encrypted in place: `source` holds ciphertext afterwards.
  Status WriteInPlace(uint64_t offset, MutableBytes source);

  // For a thread that must not block: Read and WriteInPlace where they wait neither for a disk nor for another request.
  // Nothing where they would: then `target` may hold a part, `source` and the device are as they were, and the caller
  // asks a thread that may block.

  // Where the page cache holds all of the range.
  std::optional<Status> TryRead(uint64_t offset, MutableBytes target);
  // Whole pages of the file, kTryWriteBytesMax at most. They go into the page cache; only a system short of memory
  // makes the caller wait.
  std::optional<Status> TryWriteInPlace(uint64_t offset, MutableBytes source);

  // The range will be read soon: the system may read it ahead. Does not wait for that.
  void Prefetch(uint64_t offset, uint64_t length);

  const DeviceOptions& options() const { return options_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // fdatasync; after a failure the device takes no write and no flush any more: the kernel has marked the lost pages
  // clean, so a later fsync that succeeds would prove nothing.
  Status Flush();

  // device_allocation.cc. The caller bounds `length`: a call blocks others on its range for as long as it takes.

  // The range reads as zeros from now on. Sparse: whole sectors become holes.
  Status Zero(uint64_t offset, uint64_t length);
  // Sparse: whole sectors of the range become holes, its part sectors stay. Otherwise it checks and does nothing.
  Status Trim(uint64_t offset, uint64_t length);
  // Sparse: writes the ciphertext of zeros into every sector whose ciphertext is all zeros. Whole sectors.
  Status Fill(uint64_t offset, uint64_t length);
  // The range from its beginning on, in order, as pieces of alternating status, `count_max` (>= 1) at most. What is
  // left out at the end is the caller's to ask for.
  Result<std::vector<BlockStatus>> Extents(uint64_t offset, uint64_t length, size_t count_max);

  // kArgument where the range is not inside the device.
  Status CheckRange(uint64_t offset, uint64_t length) const;
  bool sparse() const { return options_.sparse; }

  // Calls that wait for a cache end: whoever has to answer them may be the one who closes the device.
  void CloseCaches();
  // Waits for calls under way; later ones fail with kDetached.
  void Close();

 private:
  struct Region {
    UniqueFd fd;
    std::shared_ptr<BlockCache> cache;  // instead of the file
    std::optional<vault::KeyHandle> key;
    uint64_t begin;  // in the device
    uint64_t end;
    uint64_t file_begin;

    uint64_t FileOffset(uint64_t offset) const { return file_begin + (offset - begin); }
    // Where a place of the file, not before the region's, is in the device.
    uint64_t DeviceOffset(uint64_t file_offset) const { return begin + (file_offset - file_begin); }
  };
  // A region for the length of one call.
  struct Sectors {
    const Region& region;
    const xts::KeySchedule* key;  // null: plaintext
  };

  Device(DeviceOptions options, std::vector<Region> regions, uint64_t size_bytes)
      : options_(std::move(options)), regions_(std::move(regions)), size_bytes_(size_bytes) {}

  static Result<Region> OpenRegion(const DeviceRegion& from, const DeviceOptions& options, uint64_t begin);
  static Status Detached();
  Status CheckWritable() const;
  uint64_t SectorFloor(uint64_t offset) const { return offset / options_.sector_bytes * options_.sector_bytes; }
  uint64_t SectorCeiling(uint64_t offset) const { return SectorFloor(offset + options_.sector_bytes - 1); }
  // Calls `use` for each region that has a part of the range: with the region, its key pinned, and the part's place.
  // Ends with the first status that is not ok.
  template <typename Use>
  Status ForEachRegion(uint64_t offset, uint64_t length, Use use) const;
  // The region that has all of the range; null where there are several.
  const Region* RegionOf(uint64_t offset, uint64_t length) const;
  void Crypt(const Sectors& sectors, bool encrypts, uint64_t offset, const uint8_t* source, uint8_t* target,
             size_t length) const;
  // Reads and decrypts whole sectors into `target`.
  Status ReadSectors(const Sectors& sectors, uint64_t offset, MutableBytes target) const;
  // The same where the page cache holds them.
  bool TryReadSectors(const Sectors& sectors, uint64_t offset, MutableBytes target) const;
  bool TryReadRange(const Sectors& sectors, uint64_t offset, MutableBytes target) const;
  void DecryptSectors(const Sectors& sectors, uint64_t offset, MutableBytes target) const;
  Status ReadRange(const Sectors& sectors, uint64_t offset, MutableBytes target) const;
  // Encrypts whole sectors of `source` into a buffer of this thread's, and writes them.
  Status WriteSectors(const Sectors& sectors, uint64_t offset, Bytes source) const;
  Status WriteSectors(const Sectors& sectors, uint64_t offset, MutableBytes source) const;
  template <typename Source>
  Status WriteAnyRange(uint64_t offset, Source source);
  template <typename Source>
  Status WriteRange(const Sectors& sectors, uint64_t offset, Source source) const;
  // Changes `source.size()` bytes inside one sector.
  Status ChangeSector(const Sectors& sectors, uint64_t offset, Bytes source) const;
  Status ZeroRange(const Sectors& sectors, uint64_t offset, uint64_t length) const;
  // Whole sectors.
  Status ZeroSectors(const Sectors& sectors, uint64_t offset, uint64_t length) const;
  // `length` bytes inside one sector.
  Status ZeroInSector(const Sectors& sectors, uint64_t offset, size_t length) const;
  Status FillRange(const Sectors& sectors, uint64_t offset, uint64_t length) const;
  Status FillPiece(const Sectors& sectors, const ImageFile& file, uint64_t offset, MutableBytes buffer) const;
  Status AddExtents(const Region& region, uint64_t offset, uint64_t length, size_t count_max,
                    std::vector<BlockStatus>& list) const;

  const DeviceOptions options_;
  std::vector<Region> regions_;
  const uint64_t size_bytes_;
  RangeLock ranges_;
  std::shared_mutex lifetime_;  // shared by every call, exclusive for Close
  bool closed_ = false;
  std::mutex flush_mutex_;
  std::atomic<bool> poisoned_ = false;
};

template <typename Use>
Status Device::ForEachRegion(uint64_t offset, uint64_t length, Use use) const {
  for (const Region& region : regions_) {
    const uint64_t begin = std::max(offset, region.begin), end = std::min(offset + length, region.end);
    if (begin >= end) continue;
    std::optional<vault::PinnedKey> pinned;
    if (region.key) {
      auto key = vault::Vault::OfProcess().PinVolumeKey(*region.key);
      if (!key.ok()) return key.status();
      pinned.emplace(std::move(key.value()));
    }
    const Sectors sectors = {region, pinned ? &pinned->schedule() : nullptr};
    if (Status status = use(sectors, begin, end - begin); !status.ok()) return status;
  }
  return Ok();
}

}  // namespace volseal::engine
