// A device's reads and writes for threads that must not block.
#include <fcntl.h>

#include <mutex>

#include "engine/device.h"
#include "engine/file.h"

namespace volseal::engine {
namespace {

// Of the page cache; larger pages of other machines only make the kernel read the rest of one.
constexpr uint64_t kPageBytes = 4096;

}  // namespace

std::optional<Status> Device::TryRead(uint64_t offset, MutableBytes target) {
  const std::shared_lock alive(lifetime_, std::try_to_lock);
  if (!alive.owns_lock()) return std::nullopt;
  if (closed_) return Detached();
  if (Status status = CheckRange(offset, target.size()); !status.ok()) return status;
  if (target.empty()) return Ok();
  const Region* const region = RegionOf(offset, target.size());
  if (!region) return std::nullopt;
  const RangeLock::Guard guard(ranges_, SectorFloor(offset), offset + target.size(), false, std::try_to_lock);
  if (!guard.holds()) return std::nullopt;
  bool cached = true;
  Status status = ForEachRegion(offset, target.size(), [&](const Sectors& sectors, uint64_t, uint64_t) {
    cached = TryReadRange(sectors, offset, target);
    return Ok();
  });
  if (!cached) return std::nullopt;
  return status;
}

bool Device::TryReadRange(const Sectors& sectors, uint64_t offset, MutableBytes target) const {
  while (!target.empty()) {
    const uint64_t within = offset % options_.sector_bytes;
    size_t length = SectorFloor(target.size());
    if (within == 0 && length > 0) {
      if (!TryReadSectors(sectors, offset, target.first(length))) return false;
    } else {
      uint8_t sector[kSectorBytesMax];
      length = std::min<size_t>(target.size(), options_.sector_bytes - within);
      if (!TryReadSectors(sectors, offset - within, {sector, options_.sector_bytes})) return false;
      std::memcpy(target.data(), sector + within, length);
    }
    offset += length;
    target = target.subspan(length);
  }
  return true;
}

std::optional<Status> Device::TryWriteInPlace(uint64_t offset, MutableBytes source) {
  const std::shared_lock alive(lifetime_, std::try_to_lock);
  if (!alive.owns_lock()) return std::nullopt;
  if (closed_) return Detached();
  if (Status status = CheckWritable(); !status.ok()) return status;
  if (Status status = CheckRange(offset, source.size()); !status.ok()) return status;
  const Region* const region = RegionOf(offset, source.size());
  if (!region) return std::nullopt;
  const bool whole_pages = region->FileOffset(offset) % kPageBytes == 0 && source.size() % kPageBytes == 0;
  // A page is whole sectors, unless the data begins inside one.
  const bool whole_sectors = offset % options_.sector_bytes == 0 && source.size() % options_.sector_bytes == 0;
  if (!whole_pages || !whole_sectors || source.size() > kTryWriteBytesMax) return std::nullopt;
  if (source.empty()) return Ok();
  const RangeLock::Guard guard(ranges_, offset, offset + source.size(), true, std::try_to_lock);
  if (!guard.holds()) return std::nullopt;
  return ForEachRegion(offset, source.size(), [&](const Sectors& sectors, uint64_t at, uint64_t) {
    return WriteSectors(sectors, at, source);
  });
}

void Device::Prefetch(uint64_t offset, uint64_t length) {
  const std::shared_lock alive(lifetime_, std::try_to_lock);
  if (!alive.owns_lock() || closed_ || !CheckRange(offset, length).ok()) return;
  const Region* const region = RegionOf(offset, length);
  if (!region) return;
  if (region->cache) return region->cache->Prefetch(region->FileOffset(offset), length);
  // Advice: nothing is lost where the system does not take it.
  static_cast<void>(posix_fadvise(region->fd.get(), static_cast<off_t>(region->FileOffset(offset)),
                                  static_cast<off_t>(length), POSIX_FADV_WILLNEED));
}

}  // namespace volseal::engine
