#include "engine/volume_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "engine/aligned_buffer.h"
#include "engine/zeros.h"
#include "xts/dispatch.h"

namespace volseal::engine {
namespace {

constexpr size_t kSectorsMax = kBufferBytes / 512;

}  // namespace

Result<VolumeSource> VolumeSource::Open(const std::vector<DeviceRegion>& regions, uint32_t sector_bytes, bool sparse,
                                        uint64_t needed_bytes) {
  if (!xts::IsSectorSize(sector_bytes))
    return Failure(Code::kArgument, "the source's sector size is not 512, 1024, 2048 or 4096");
  VolumeSource source;
  source.sector_bytes_ = sector_bytes;
  source.sparse_ = sparse;
  uint64_t begin = 0;
  for (const DeviceRegion& from : regions) {
    if (from.size_bytes == 0 || from.size_bytes % sector_bytes != 0)
      return Failure(Code::kArgument, "a region of the source is not a whole number of sectors");
    auto file = ImageFile::Open(from.fd, from.offset_bytes, Access::kRead);
    if (!file.ok()) return file.status();
    if (from.size_bytes > file.value().size_bytes())
      return Failure(Code::kArgument,
                     "the source has " + std::to_string(file.value().size_bytes()) + " bytes, too few");
    if (from.key) {
      if (auto key = vault::Vault::OfProcess().PinVolumeKey(*from.key); !key.ok()) return key.status();
    }
    source.regions_.push_back({std::move(file.value()), from.key, begin, begin + from.size_bytes});
    begin += from.size_bytes;
  }
  if (begin < needed_bytes || regions.empty())
    return Failure(Code::kArgument, "the source has " + std::to_string(begin) + " bytes, too few");
  return source;
}

Status VolumeSource::Read(uint64_t position, MutableBytes target) const {
  for (const Region& region : regions_) {
    const uint64_t begin = std::max(position, region.begin);
    const uint64_t end = std::min<uint64_t>(position + target.size(), region.end);
    if (begin >= end) continue;
    Status status = ReadRegion(region, begin, target.subspan(begin - position, end - begin));
    if (!status.ok()) return status;
  }
  return Ok();
}

Status VolumeSource::ReadRegion(const Region& region, uint64_t position, MutableBytes target) const {
  const uint64_t at = position - region.begin;
  if (region.file.NextData(at) < at + target.size()) {
    if (Status status = region.file.Read(at, target); !status.ok()) return status;
  } else {
    std::memset(target.data(), 0, target.size());
  }
  if (!region.key) return Ok();
  auto key = vault::Vault::OfProcess().PinVolumeKey(*region.key);
  if (!key.ok()) return key.status();
  Decrypt(key.value().schedule(), position, target);
  return Ok();
}

void VolumeSource::Decrypt(const xts::KeySchedule& key, uint64_t position, MutableBytes sectors) const {
  const xts::SectorRun run = {position / xts::kTweakUnitBytes, sector_bytes_, sectors.size() / sector_bytes_};
  std::array<bool, kSectorsMax> is_hole = {};
  const auto sector = [&](size_t index) { return sectors.subspan(index * run.sector_bytes, run.sector_bytes); };
  if (sparse_) {
    for (size_t i = 0; i < run.sector_count; ++i) is_hole[i] = IsZeros(sector(i));
  }
  xts::ActiveKernel().decrypt(key, sectors.data(), sectors.data(), run);
  if (!sparse_) return;
  for (size_t i = 0; i < run.sector_count; ++i) {
    if (is_hole[i]) std::memset(sector(i).data(), 0, run.sector_bytes);
  }
}

uint64_t VolumeSource::NextData(uint64_t position) const {
  for (const Region& region : regions_) {
    if (position >= region.end) continue;
    const uint64_t begin = std::max(position, region.begin);
    const uint64_t found = region.file.NextData(begin - region.begin);
    if (found < region.end - region.begin) return region.begin + found;
  }
  return UINT64_MAX;
}

}  // namespace volseal::engine
