// What a device says and changes about the room that it takes: zeroing, trimming, filling, block status.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/aligned_buffer.h"
#include "engine/device.h"
#include "engine/file.h"
#include "engine/holes.h"
#include "engine/zeros.h"
#include "xts/dispatch.h"

namespace volseal::engine {
namespace {

// Adds a piece to the list, or to its last piece where the status is the same.
void Append(std::vector<BlockStatus>& list, const BlockStatus& piece) {
  if (piece.length == 0) return;
  if (!list.empty() && list.back().zero == piece.zero) {
    list.back().length += piece.length;
  } else {
    list.push_back(piece);
  }
}

}  // namespace

Status Device::ZeroSectors(const Sectors& sectors, uint64_t offset, uint64_t length) const {
  const Region& region = sectors.region;
  if (options_.sparse) return PunchHole(region.fd.get(), region.FileOffset(offset), length);
  uint8_t* const buffer = ThreadBuffer();
  if (!buffer) return SystemFailure(ENOMEM, "aligned_alloc");
  while (length > 0) {
    const size_t piece = std::min<uint64_t>(length, kBufferBytes);
    std::memset(buffer, 0, piece);
    Crypt(sectors, true, offset, buffer, buffer, piece);
    if (Status status = WriteAt(region.fd.get(), region.FileOffset(offset), {buffer, piece}); !status.ok())
      return status;
    offset += piece;
    length -= piece;
  }
  return Ok();
}

Status Device::ZeroInSector(const Sectors& sectors, uint64_t offset, size_t length) const {
  uint8_t sector[kSectorBytesMax];
  const MutableBytes bytes(sector, options_.sector_bytes);
  const uint64_t start = SectorFloor(offset);
  if (Status status = ReadSectors(sectors, start, bytes); !status.ok()) return status;
  std::memset(sector + (offset - start), 0, length);
  // Nothing of the sector is left: in a sparse device it becomes a hole, or stays one.
  return IsZeros(bytes) ? ZeroSectors(sectors, start, bytes.size()) : WriteSectors(sectors, start, bytes);
}

Status Device::Zero(uint64_t offset, uint64_t length) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckWritable(); !status.ok()) return status;
  if (Status status = CheckRange(offset, length); !status.ok()) return status;
  if (length == 0) return Ok();
  const RangeLock::Guard guard(ranges_, SectorFloor(offset), SectorCeiling(offset + length), true);
  return ForEachRegion(
      offset, length, [&](const Sectors& sectors, uint64_t at, uint64_t part) { return ZeroRange(sectors, at, part); });
}

Status Device::ZeroRange(const Sectors& sectors, uint64_t offset, uint64_t length) const {
  while (length > 0) {
    const uint64_t within = offset % options_.sector_bytes;
    uint64_t piece = SectorFloor(length);
    Status status;
    if (within == 0 && piece > 0) {
      status = ZeroSectors(sectors, offset, piece);
    } else {
      piece = std::min<uint64_t>(length, options_.sector_bytes - within);
      status = ZeroInSector(sectors, offset, piece);
    }
    if (!status.ok()) return status;
    offset += piece;
    length -= piece;
  }
  return Ok();
}

Status Device::Trim(uint64_t offset, uint64_t length) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckWritable(); !status.ok()) return status;
  if (Status status = CheckRange(offset, length); !status.ok()) return status;
  const uint64_t begin = SectorCeiling(offset);
  const uint64_t end = SectorFloor(offset + length);
  if (!options_.sparse || begin >= end) return Ok();
  const RangeLock::Guard guard(ranges_, begin, end, true);
  return ForEachRegion(begin, end - begin, [](const Sectors& sectors, uint64_t at, uint64_t part) {
    return PunchHole(sectors.region.fd.get(), sectors.region.FileOffset(at), part);
  });
}

Status Device::FillPiece(const Sectors& sectors, const ImageFile& file, uint64_t offset, MutableBytes buffer) const {
  const Region& region = sectors.region;
  std::memset(buffer.data(), 0, buffer.size());
  const uint64_t end = offset + buffer.size();
  for (uint64_t at = offset; at < end;) {
    auto data = NextData(region.fd.get(), region.FileOffset(at), region.FileOffset(end));
    if (!data.ok()) return data.status();
    const uint64_t data_begin = region.DeviceOffset(data.value().begin);
    const uint64_t data_end = region.DeviceOffset(data.value().end);
    const MutableBytes target = buffer.subspan(data_begin - offset, data_end - data_begin);
    if (Status status = file.Read(data_begin - region.begin, target); !status.ok()) return status;
    at = data_end;
  }
  return ForEachZeroRun(buffer, options_.sector_bytes, [&](size_t start, size_t length) {
    uint8_t* const run = buffer.data() + start;
    Crypt(sectors, true, offset + start, run, run, length);
    return file.Write(offset + start - region.begin, {run, length});
  });
}

Status Device::Fill(uint64_t offset, uint64_t length) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckWritable(); !status.ok()) return status;
  if (Status status = CheckRange(offset, length); !status.ok()) return status;
  if (offset % options_.sector_bytes != 0 || length % options_.sector_bytes != 0)
    return Failure(Code::kArgument, "the range is not one of whole sectors");
  if (!options_.sparse || length == 0) return Ok();
  const RangeLock::Guard guard(ranges_, offset, offset + length, true);
  return ForEachRegion(
      offset, length, [&](const Sectors& sectors, uint64_t at, uint64_t part) { return FillRange(sectors, at, part); });
}

Status Device::FillRange(const Sectors& sectors, uint64_t offset, uint64_t length) const {
  const Region& region = sectors.region;
  // Direct writes: a volume that is filled may be larger than memory, and nobody reads these zeros soon.
  auto file = ImageFile::Open(region.fd.get(), region.file_begin, Access::kReadWrite);
  if (!file.ok()) return file.status();
  uint8_t* const buffer = ThreadBuffer();
  if (!buffer) return SystemFailure(ENOMEM, "aligned_alloc");
  while (length > 0) {
    const size_t piece = std::min<uint64_t>(length, kBufferBytes);
    if (Status status = FillPiece(sectors, file.value(), offset, {buffer, piece}); !status.ok()) return status;
    offset += piece;
    length -= piece;
  }
  return Ok();
}

Result<std::vector<BlockStatus>> Device::Extents(uint64_t offset, uint64_t length, size_t count_max) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Detached();
  if (Status status = CheckRange(offset, length); !status.ok()) return status;
  std::vector<BlockStatus> list;
  if (length == 0) return list;
  if (!options_.sparse) return std::vector<BlockStatus>{{offset, length, false}};
  const RangeLock::Guard guard(ranges_, SectorFloor(offset), SectorCeiling(offset + length), false);
  for (const Region& region : regions_) {
    const uint64_t begin = std::max(offset, region.begin), end = std::min(offset + length, region.end);
    if (begin >= end) continue;
    // What lies elsewhere has no holes to look for.
    if (region.cache) {
      Append(list, {begin, end - begin, false});
      continue;
    }
    if (Status status = AddExtents(region, begin, end - begin, count_max, list); !status.ok()) return status;
  }
  if (list.size() > count_max) list.resize(count_max);
  return list;
}

Status Device::AddExtents(const Region& region, uint64_t offset, uint64_t length, size_t count_max,
                          std::vector<BlockStatus>& list) const {
  const uint64_t end = offset + length;
  // One more than asked for: the last piece is complete once another one has begun.
  for (uint64_t at = offset; at < end && list.size() <= count_max;) {
    const uint64_t from = SectorFloor(at);
    auto found = NextData(region.fd.get(), region.FileOffset(from), region.FileOffset(SectorCeiling(end)));
    if (!found.ok()) return found.status();
    // A sector is a hole where all of it is.
    const uint64_t data_begin = SectorFloor(region.DeviceOffset(found.value().begin));
    const uint64_t data_end = SectorCeiling(region.DeviceOffset(found.value().end));
    const uint64_t zero_end = std::clamp(data_begin, at, end);
    Append(list, {at, zero_end - at, true});
    const uint64_t next = found.value().begin == found.value().end ? end : std::clamp(data_end, zero_end, end);
    Append(list, {zero_end, next - zero_end, false});
    at = next;
  }
  return Ok();
}

}  // namespace volseal::engine
