#include "engine/image_transform.h"

#include <algorithm>
#include <cerrno>
#include <string>

#include "engine/aligned_buffer.h"
#include "engine/file.h"

namespace volseal::engine {
namespace {

// What every device's O_DIRECT takes: page-sized, page-aligned requests.
constexpr uint64_t kDirectAlignment = 4096;

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

Status Closed() { return Failure(Code::kDetached, "the transform is closed"); }

}  // namespace

int ImageTransform::Side::FdFor(uint64_t position, size_t length) const {
  const bool aligned = (position | length) % kDirectAlignment == 0;
  return aligned && direct.valid() ? direct.get() : buffered.get();
}

Result<ImageTransform::Side> ImageTransform::OpenSide(int fd, uint64_t offset_bytes, bool writable) {
  auto buffered = Duplicate(fd);
  if (!buffered.ok()) return buffered.status();
  return Side{std::move(buffered.value()), ReopenDirect(fd, writable), offset_bytes};
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
  if (auto target_size = CheckFile(options.target_fd, Access::kReadWrite); !target_size.ok())
    return target_size.status();

  Side source;
  if (!from_zeros) {
    auto size = CheckFile(options.source_fd, Access::kRead);
    if (!size.ok()) return size.status();
    if (options.source_offset_bytes > size.value() ||
        options.source_bytes > size.value() - options.source_offset_bytes) {
      return Failure(Code::kArgument, "the source has " + std::to_string(size.value()) + " bytes, too few");
    }
    auto opened = OpenSide(options.source_fd, options.source_offset_bytes, false);
    if (!opened.ok()) return opened.status();
    source = std::move(opened.value());
  }
  auto target = OpenSide(options.target_fd, options.target_offset_bytes, true);
  if (!target.ok()) return target.status();
  auto key = vault::Vault::OfProcess().Pin(options.key);
  if (!key.ok()) return key.status();
  if (!key.value().is_volume_key()) return Failure(Code::kArgument, "the key is not a volume key: prepare it first");
  if (Status status = Preallocate(options.target_fd, options.target_offset_bytes, options.target_bytes); !status.ok())
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
  auto key = vault::Vault::OfProcess().Pin(options_.key);
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
    if (Status status = ReadAt(source_.FdFor(position, available), position, {buffer, available}); !status.ok())
      return status;
    std::memset(buffer + available, 0, whole - available);
  } else {
    std::memset(buffer, 0, whole);
  }
  const xts::Kernel& kernel = xts::Kernels().front();
  (options_.encrypt ? kernel.encrypt : kernel.decrypt)(key, buffer, buffer,
                                                       {start / xts::kTweakUnitBytes, options_.sector_bytes, sectors});
  const uint64_t position = target_.offset_bytes + start;
  return WriteAt(target_.FdFor(position, length), position, {buffer, length});
}

void ImageTransform::Close() {
  const std::unique_lock alone(lifetime_);
  closed_ = true;
  source_ = Side{};
  target_ = Side{};
}

}  // namespace volseal::engine
