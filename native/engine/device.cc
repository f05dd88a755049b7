#include "engine/device.h"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "engine/aligned_buffer.h"
#include "engine/file.h"
#include "engine/zeros.h"
#include "xts/dispatch.h"

namespace volseal::engine {

Result<Device::Region> Device::OpenRegion(const DeviceRegion& from, const DeviceOptions& options, uint64_t begin) {
  if (from.offset_bytes % xts::kTweakUnitBytes != 0)
    return Failure(Code::kArgument, "the data offset is not a multiple of 512");
  if (from.size_bytes == 0 || from.size_bytes % options.sector_bytes != 0)
    return Failure(Code::kArgument, "the volume's size is not a whole number of sectors");
  if (from.cache && options.writable) return Failure(Code::kArgument, "a volume behind a cache is read only");
  UniqueFd fd;
  uint64_t size = 0;
  if (from.cache) {
    size = from.cache->size_bytes();
  } else {
    auto copy = Duplicate(from.fd);
    if (!copy.ok()) return copy.status();
    fd = std::move(copy.value());
    auto found = CheckFile(fd.get(), options.writable ? Access::kReadWrite : Access::kRead);
    if (!found.ok()) return found.status();
    size = found.value();
  }
  if (from.offset_bytes > size || from.size_bytes > size - from.offset_bytes) {
    return Failure(Code::kArgument, "the file has " + std::to_string(size) + " bytes and does not hold the volume's " +
                                        std::to_string(from.size_bytes) + " at " + std::to_string(from.offset_bytes));
  }
  if (from.key) {
    if (auto key = vault::Vault::OfProcess().PinVolumeKey(*from.key); !key.ok()) return key.status();
  }
  return Region{std::move(fd), from.cache, from.key, begin, begin + from.size_bytes, from.offset_bytes};
}

Result<std::shared_ptr<Device>> Device::Open(DeviceOptions options) {
  if (!xts::IsSectorSize(options.sector_bytes))
    return Failure(Code::kArgument, "the sector size is not 512, 1024, 2048 or 4096");
  if (options.regions.empty()) return Failure(Code::kArgument, "the volume has no region");
  std::vector<Region> regions;
  uint64_t size_bytes = 0;
  for (const DeviceRegion& from : options.regions) {
    auto region = OpenRegion(from, options, size_bytes);
    if (!region.ok()) return region.status();
    size_bytes = region.value().end;
    regions.push_back(std::move(region.value()));
  }
  return std::shared_ptr<Device>(new Device(std::move(options), std::move(regions), size_bytes));
}

const Device::Region* Device::RegionOf(uint64_t offset, uint64_t length) const {
  for (const Region& region : regions_) {
    if (offset >= region.begin && offset + length <= region.end) return &region;
  }
  return nullptr;
}

Status Device::Detached() { return Failure(Code::kDetached, "the volume is detached"); }

Status Device::CheckRange(uint64_t offset, uint64_t length) const {
  if (offset > size_bytes_ || length > size_bytes_ - offset) {
    Status status =
        Failure(Code::kArgument, "bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) +
                                     " are not inside the volume's " + std::to_string(size_bytes_));
    status.offset_bytes = offset;
    return status;
  }
  return Ok();
}

Status Device::CheckWritable() const {
  if (!options_.writable) return Failure(Code::kReadOnly, "the volume is attached for reading only");
  if (poisoned_) {
    return Failure(Code::kPoisoned,
                   "an earlier flush failed: what was written since the last good one may be lost; detach, check the "
                   "disk, attach again");
  }
  return Ok();
}

void Device::Crypt(const Sectors& sectors, bool encrypts, uint64_t offset, const uint8_t* source, uint8_t* target,
                   size_t length) const {
  if (!sectors.key) {
    if (source != target) std::memcpy(target, source, length);
    return;
  }
  const xts::SectorRun run = {offset / xts::kTweakUnitBytes, options_.sector_bytes, length / options_.sector_bytes};
  const xts::Kernel& kernel = xts::ActiveKernel();
  (encrypts ? kernel.encrypt : kernel.decrypt)(*sectors.key, source, target, run);
}

void Device::DecryptSectors(const Sectors& sectors, uint64_t offset, MutableBytes target) const {
  const auto decrypt = [&](size_t start, size_t length) {
    uint8_t* const run = target.data() + start;
    Crypt(sectors, false, offset + start, run, run, length);
    return Ok();
  };
  const Status status =
      options_.sparse ? ForEachDataRun(target, options_.sector_bytes, decrypt) : decrypt(0, target.size());
  (void)status;
}

Status Device::ReadSectors(const Sectors& sectors, uint64_t offset, MutableBytes target) const {
  const Region& region = sectors.region;
  const uint64_t from = region.FileOffset(offset);
  Status status = region.cache ? region.cache->Read(from, target) : ReadAt(region.fd.get(), from, target);
  if (!status.ok()) return status;
  DecryptSectors(sectors, offset, target);
  return Ok();
}

bool Device::TryReadSectors(const Sectors& sectors, uint64_t offset, MutableBytes target) const {
  const Region& region = sectors.region;
  const uint64_t from = region.FileOffset(offset);
  if (!(region.cache ? region.cache->TryRead(from, target) : ReadCachedAt(region.fd.get(), from, target))) return false;
  DecryptSectors(sectors, offset, target);
  return true;
}

Status Device::WriteSectors(const Sectors& sectors, uint64_t offset, Bytes source) const {
  const Region& region = sectors.region;
  uint8_t* const buffer = ThreadBuffer();
  if (!buffer) return SystemFailure(ENOMEM, "aligned_alloc");
  while (!source.empty()) {
    const size_t length = std::min(source.size(), kBufferBytes);
    Crypt(sectors, true, offset, source.data(), buffer, length);
    if (Status status = WriteAt(region.fd.get(), region.FileOffset(offset), {buffer, length}); !status.ok())
      return status;
    offset += length;
    source = source.subspan(length);
  }
  return Ok();
}

Status Device::WriteSectors(const Sectors& sectors, uint64_t offset, MutableBytes source) const {
  const Region& region = sectors.region;
  while (!source.empty()) {
    const MutableBytes piece = source.first(std::min(source.size(), kBufferBytes));
    Crypt(sectors, true, offset, piece.data(), piece.data(), piece.size());
    if (Status status = WriteAt(region.fd.get(), region.FileOffset(offset), piece); !status.ok()) return status;
    offset += piece.size();
    source = source.subspan(piece.size());
  }
  return Ok();
}

Status Device::ChangeSector(const Sectors& sectors, uint64_t offset, Bytes source) const {
  uint8_t sector[kSectorBytesMax];
  const MutableBytes bytes(sector, options_.sector_bytes);
  const uint64_t within = offset % options_.sector_bytes;
  if (Status status = ReadSectors(sectors, offset - within, bytes); !status.ok()) return status;
  std::memcpy(sector + within, source.data(), source.size());
  return WriteSectors(sectors, offset - within, bytes);
}

Status Device::Read(uint64_t offset, MutableBytes target) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckRange(offset, target.size()); !status.ok()) return status;
  if (target.empty()) return Ok();
  const RangeLock::Guard guard(ranges_, SectorFloor(offset), offset + target.size(), false);
  return ForEachRegion(offset, target.size(), [&](const Sectors& sectors, uint64_t at, uint64_t length) {
    return ReadRange(sectors, at, target.subspan(at - offset, length));
  });
}

Status Device::ReadRange(const Sectors& sectors, uint64_t offset, MutableBytes target) const {
  const uint64_t sector_bytes = options_.sector_bytes;
  while (!target.empty()) {
    const uint64_t within = offset % sector_bytes;
    size_t length = target.size() / sector_bytes * sector_bytes;
    if (within == 0 && length > 0) {
      if (Status status = ReadSectors(sectors, offset, target.first(length)); !status.ok()) return status;
    } else {
      uint8_t sector[kSectorBytesMax];
      length = std::min<size_t>(target.size(), sector_bytes - within);
      if (Status status = ReadSectors(sectors, offset - within, {sector, sector_bytes}); !status.ok()) return status;
      std::memcpy(target.data(), sector + within, length);
    }
    offset += length;
    target = target.subspan(length);
  }
  return Ok();
}

template <typename Source>
Status Device::WriteAnyRange(uint64_t offset, Source source) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckWritable(); !status.ok()) return status;
  if (Status status = CheckRange(offset, source.size()); !status.ok()) return status;
  if (source.empty()) return Ok();
  // Whole sectors, so that nobody changes the rest of one between this call's reading and writing it.
  const RangeLock::Guard guard(ranges_, SectorFloor(offset), SectorCeiling(offset + source.size()), true);
  return ForEachRegion(offset, source.size(), [&](const Sectors& sectors, uint64_t at, uint64_t length) {
    return WriteRange(sectors, at, source.subspan(at - offset, length));
  });
}

template <typename Source>
Status Device::WriteRange(const Sectors& sectors, uint64_t offset, Source source) const {
  const uint64_t sector_bytes = options_.sector_bytes;
  while (!source.empty()) {
    const uint64_t within = offset % sector_bytes;
    size_t length = source.size() / sector_bytes * sector_bytes;
    Status status;
    if (within == 0 && length > 0) {
      status = WriteSectors(sectors, offset, source.first(length));
    } else {
      length = std::min<size_t>(source.size(), sector_bytes - within);
      status = ChangeSector(sectors, offset, source.first(length));
    }
    if (!status.ok()) return status;
    offset += length;
    source = source.subspan(length);
  }
  return Ok();
}

Status Device::Write(uint64_t offset, Bytes source) { return WriteAnyRange(offset, source); }

Status Device::WriteInPlace(uint64_t offset, MutableBytes source) { return WriteAnyRange(offset, source); }

Status Device::Flush() {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckWritable(); !status.ok()) return status;
  // One at a time: the kernel reports a lost write to one caller only, and the others must not take that for success.
  const std::lock_guard one_flush(flush_mutex_);
  if (poisoned_) return CheckWritable();
  for (const Region& region : regions_) {
    if (Status status = SyncData(region.fd.get()); !status.ok()) {
      poisoned_ = true;
      return status;
    }
  }
  return Ok();
}

void Device::CloseCaches() {
  for (const Region& region : regions_) {
    if (region.cache) region.cache->Close();
  }
}

void Device::Close() {
  CloseCaches();
  const std::unique_lock alone(lifetime_);
  closed_ = true;
  for (Region& region : regions_) region.fd.Reset();
}

}  // namespace volseal::engine
