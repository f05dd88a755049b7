#include "engine/image_transform.h"

#include <algorithm>
#include <cerrno>
#include <string>

#include "engine/aligned_buffer.h"
#include "engine/file.h"
#include "xts/dispatch.h"

namespace volseal::engine {
namespace {

// What nearly every O_DIRECT takes: page-sized, page-aligned requests. Where one wants more, the piece goes the
// buffered way.
constexpr uint64_t kDirectAlignment = 4096;

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

Status Closed() { return Failure(Code::kDetached, "the transform is closed"); }

}  // namespace

Status ImageTransform::Side::Read(uint64_t position, MutableBytes target) const {
  if (TakesDirect(position, target.size())) {
    Status status = ReadAt(direct.get(), position, target);
    if (status.error_number != EINVAL) return status;
  }
  return ReadAt(buffered.get(), position, target);
}

Status ImageTransform::Side::Write(uint64_t position, Bytes source) const {
  if (TakesDirect(position, source.size())) {
    Status status = WriteAt(direct.get(), position, source);
    if (status.error_number != EINVAL) return status;
  }
  return WriteAt(buffered.get(), position, source);
}

bool ImageTransform::Side::TakesDirect(uint64_t position, size_t length) const {
  return direct.valid() && (position | length) % kDirectAlignment == 0;
}

Result<ImageTransform::Side> ImageTransform::OpenSide(int fd, uint64_t offset_bytes, Access access) {
  // Duplicated first: the caller's number may be another file a moment later.
  auto buffered = Duplicate(fd);
  if (!buffered.ok()) return buffered.status();
  auto size = CheckFile(buffered.value().get(), access);
  if (!size.ok()) return size.status();
  UniqueFd direct = ReopenDirect(buffered.value().get(), access != Access::kRead);
  return Side{std::move(buffered.value()), std::move(direct), offset_bytes, size.value()};
}

Result<std::shared_ptr<ImageTransform>> ImageTransform::Open(const ImageTransformOptions& options) {
  const uint64_t sector_bytes = options.sector_bytes;
  if (!xts::IsSectorSize(sector_bytes))
    return Failure(Code::kArgument, "the sector size is not 512, 1024, 2048 or 4096");
  // The side that holds ciphertext has whole sectors; the other one ends within the last of them.
  const uint64_t cipher_bytes = options.encrypt ? options.target_bytes : options.source_bytes;
  const uint64_t plain_bytes = options.encrypt ? options.source_bytes : options.target_bytes;
  if (plain_bytes == 0 || cipher_bytes != RoundUp(plain_bytes, sector_bytes)) {
    return Failure(Code::kArgument, "source and target differ by more than the filling of the last sector");
  }
  const bool from_zeros = options.source_fd == -1;
  if (from_zeros && !options.encrypt) return Failure(Code::kArgument, "only encryption can start from zeros");
  Side source;
  if (!from_zeros) {
    auto opened = OpenSide(options.source_fd, options.source_offset_bytes, Access::kRead);
    if (!opened.ok()) return opened.status();
    source = std::move(opened.value());
    if (options.source_offset_bytes > source.size_bytes ||
        options.source_bytes > source.size_bytes - options.source_offset_bytes) {
      return Failure(Code::kArgument, "the source has " + std::to_string(source.size_bytes) + " bytes, too few");
    }
  }
  auto target = OpenSide(options.target_fd, options.target_offset_bytes, Access::kReadWrite);
  if (!target.ok()) return target.status();
  if (auto key = vault::Vault::OfProcess().PinVolumeKey(options.key); !key.ok()) return key.status();
  if (Status status = Preallocate(target.value().buffered.get(), options.target_offset_bytes, options.target_bytes);
      !status.ok())
    return status;
  return std::shared_ptr<ImageTransform>(new ImageTransform(options, std::move(source), std::move(target.value())));
}

Status ImageTransform::Run(uint64_t start, uint64_t length) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Closed();
  const uint64_t end_of_image = options_.target_bytes;
  const bool inside = start < end_of_image && length > 0 && length <= end_of_image - start;
  if (!inside || start % kBufferBytes != 0 || (length % kBufferBytes != 0 && start + length != end_of_image)) {
    return Failure(Code::kArgument, "a range of a transform begins at a whole MiB, and ends at one or with the image");
  }
  auto key = vault::Vault::OfProcess().PinVolumeKey(options_.key);
  if (!key.ok()) return key.status();
  uint8_t* const buffer = ThreadBuffer();
  if (!buffer) return SystemFailure(ENOMEM, "aligned_alloc");
  for (uint64_t done = 0; done < length; done += kBufferBytes) {
    const size_t piece = static_cast<size_t>(std::min<uint64_t>(length - done, kBufferBytes));
    if (Status status = RunPiece(key.value().schedule(), start + done, piece, buffer); !status.ok()) return status;
  }
  return Ok();
}

Status ImageTransform::RunPiece(const xts::KeySchedule& key, uint64_t start, size_t length, uint8_t* buffer) const {
  const size_t sectors = RoundUp(length, options_.sector_bytes) / options_.sector_bytes;
  const size_t whole = sectors * options_.sector_bytes;
  const size_t available = static_cast<size_t>(std::min<uint64_t>(whole, options_.source_bytes - start));
  if (source_.buffered.valid()) {
    const uint64_t position = source_.offset_bytes + start;
    if (Status status = source_.Read(position, {buffer, available}); !status.ok()) return status;
    std::memset(buffer + available, 0, whole - available);
  } else {
    std::memset(buffer, 0, whole);
  }
  const xts::Kernel& kernel = xts::ActiveKernel();
  (options_.encrypt ? kernel.encrypt : kernel.decrypt)(key, buffer, buffer,
                                                       {start / xts::kTweakUnitBytes, options_.sector_bytes, sectors});
  const uint64_t position = target_.offset_bytes + start;
  return target_.Write(position, {buffer, length});
}

void ImageTransform::Close() {
  const std::unique_lock alone(lifetime_);
  closed_ = true;
  source_ = Side{};
  target_ = Side{};
}

}  // namespace volseal::engine
