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

Result<std::shared_ptr<Device>> Device::Open(const DeviceOptions& options) {
  if (!xts::IsSectorSize(options.sector_bytes))
    return Failure(Code::kArgument, "the sector size is not 512, 1024, 2048 or 4096");
  if (options.data_offset_bytes % xts::kTweakUnitBytes != 0)
    return Failure(Code::kArgument, "the data offset is not a multiple of 512");
  if (options.size_bytes == 0 || options.size_bytes % options.sector_bytes != 0) {
    return Failure(Code::kArgument, "the volume's size is not a whole number of sectors");
  }
  auto fd = Duplicate(options.fd);
  if (!fd.ok()) return fd.status();
  auto size = CheckFile(fd.value().get(), options.writable ? Access::kReadWrite : Access::kRead);
  if (!size.ok()) return size.status();
  if (options.data_offset_bytes > size.value() || options.size_bytes > size.value() - options.data_offset_bytes) {
    return Failure(Code::kArgument, "the file has " + std::to_string(size.value()) +
                                        " bytes and does not hold the volume's " + std::to_string(options.size_bytes) +
                                        " at " + std::to_string(options.data_offset_bytes));
  }
  if (auto key = vault::Vault::OfProcess().PinVolumeKey(options.key); !key.ok()) return key.status();
  return std::shared_ptr<Device>(new Device(options, std::move(fd.value())));
}

Status Device::Detached() { return Failure(Code::kDetached, "the volume is detached"); }

Status Device::CheckRange(uint64_t offset, uint64_t length) const {
  if (offset > options_.size_bytes || length > options_.size_bytes - offset) {
    Status status =
        Failure(Code::kArgument, "bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) +
                                     " are not inside the volume's " + std::to_string(options_.size_bytes));
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

xts::SectorRun Device::RunAt(uint64_t offset, size_t length) const {
  return {offset / xts::kTweakUnitBytes, options_.sector_bytes, length / options_.sector_bytes};
}

void Device::DecryptSectors(const xts::KeySchedule& key, uint64_t offset, MutableBytes target) const {
  const auto decrypt = [&](size_t start, size_t length) {
    uint8_t* const run = target.data() + start;
    xts::ActiveKernel().decrypt(key, run, run, RunAt(offset + start, length));
    return Ok();
  };
  const Status status =
      options_.sparse ? ForEachDataRun(target, options_.sector_bytes, decrypt) : decrypt(0, target.size());
  (void)status;
}

Status Device::ReadSectors(const xts::KeySchedule& key, uint64_t offset, MutableBytes target) const {
  if (Status status = ReadAt(fd_.get(), FileOffset(offset), target); !status.ok()) return status;
  DecryptSectors(key, offset, target);
  return Ok();
}

bool Device::TryReadSectors(const xts::KeySchedule& key, uint64_t offset, MutableBytes target) const {
  if (!ReadCachedAt(fd_.get(), FileOffset(offset), target)) return false;
  DecryptSectors(key, offset, target);
  return true;
}

Status Device::WriteSectors(const xts::KeySchedule& key, uint64_t offset, Bytes source) const {
  uint8_t* const buffer = ThreadBuffer();
  if (!buffer) return SystemFailure(ENOMEM, "aligned_alloc");
  while (!source.empty()) {
    const size_t length = std::min(source.size(), kBufferBytes);
    xts::ActiveKernel().encrypt(key, source.data(), buffer, RunAt(offset, length));
    if (Status status = WriteAt(fd_.get(), FileOffset(offset), {buffer, length}); !status.ok()) return status;
    offset += length;
    source = source.subspan(length);
  }
  return Ok();
}

Status Device::WriteSectors(const xts::KeySchedule& key, uint64_t offset, MutableBytes source) const {
  while (!source.empty()) {
    const MutableBytes piece = source.first(std::min(source.size(), kBufferBytes));
    xts::ActiveKernel().encrypt(key, piece.data(), piece.data(), RunAt(offset, piece.size()));
    if (Status status = WriteAt(fd_.get(), FileOffset(offset), piece); !status.ok()) return status;
    offset += piece.size();
    source = source.subspan(piece.size());
  }
  return Ok();
}

Status Device::ChangeSector(const xts::KeySchedule& key, uint64_t offset, Bytes source) const {
  uint8_t sector[kSectorBytesMax];
  const MutableBytes bytes(sector, options_.sector_bytes);
  const uint64_t within = offset % options_.sector_bytes;
  if (Status status = ReadSectors(key, offset - within, bytes); !status.ok()) return status;
  std::memcpy(sector + within, source.data(), source.size());
  return WriteSectors(key, offset - within, bytes);
}

Status Device::Read(uint64_t offset, MutableBytes target) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckRange(offset, target.size()); !status.ok()) return status;
  if (target.empty()) return Ok();
  auto key = vault::Vault::OfProcess().PinVolumeKey(options_.key);
  if (!key.ok()) return key.status();
  const uint64_t sector_bytes = options_.sector_bytes;
  const RangeLock::Guard guard(ranges_, SectorFloor(offset), offset + target.size(), false);

  while (!target.empty()) {
    const uint64_t within = offset % sector_bytes;
    size_t length = target.size() / sector_bytes * sector_bytes;
    if (within == 0 && length > 0) {
      if (Status status = ReadSectors(key.value().schedule(), offset, target.first(length)); !status.ok())
        return status;
    } else {
      uint8_t sector[kSectorBytesMax];
      length = std::min<size_t>(target.size(), sector_bytes - within);
      if (Status status = ReadSectors(key.value().schedule(), offset - within, {sector, sector_bytes}); !status.ok())
        return status;
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
  auto key = vault::Vault::OfProcess().PinVolumeKey(options_.key);
  if (!key.ok()) return key.status();
  const uint64_t sector_bytes = options_.sector_bytes;
  // Whole sectors, so that nobody changes the rest of one between this call's reading and writing it.
  const RangeLock::Guard guard(ranges_, SectorFloor(offset), SectorCeiling(offset + source.size()), true);

  while (!source.empty()) {
    const uint64_t within = offset % sector_bytes;
    size_t length = source.size() / sector_bytes * sector_bytes;
    Status status;
    if (within == 0 && length > 0) {
      status = WriteSectors(key.value().schedule(), offset, source.first(length));
    } else {
      length = std::min<size_t>(source.size(), sector_bytes - within);
      status = ChangeSector(key.value().schedule(), offset, source.first(length));
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
  Status status = SyncData(fd_.get());
  if (!status.ok()) poisoned_ = true;
  return status;
}

void Device::Close() {
  const std::unique_lock alone(lifetime_);
  closed_ = true;
  fd_.Reset();
}

}  // namespace volseal::engine
