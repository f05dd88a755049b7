#include "engine/image_transform.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <thread>

#include "engine/zeros.h"
#include "xts/dispatch.h"

namespace volseal::engine {
namespace {

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

Status Stopped() { return Failure(Code::kStopped, "the transform was stopped"); }

bool Discards(const std::variant<FileSide, StreamSide>& target) {
  const auto* const file = std::get_if<FileSide>(&target);
  return file && file->discard;
}

bool IsSparse(const std::variant<FileSide, StreamSide>& target) {
  const auto* const file = std::get_if<FileSide>(&target);
  return file && file->sparse;
}

// A file with ciphertext is a volume under the transform's own key.
std::optional<VolumeSide> VolumeOf(const ImageTransformOptions& options) {
  if (const auto* const volume = std::get_if<VolumeSide>(&options.source)) return *volume;
  const auto* const file = std::get_if<FileSide>(&options.source);
  if (!file || options.mode == TransformMode::kEncrypt) return std::nullopt;
  return VolumeSide{.regions = {{file->fd, options.key, file->offset_bytes, options.source_bytes}},
                    .sector_bytes = options.sector_bytes,
                    .sparse = file->sparse};
}

bool IsSparseSource(const ImageTransformOptions& options) {
  const auto volume = VolumeOf(options);
  return volume && volume->sparse;
}

Status CheckOptions(const ImageTransformOptions& options) {
  const uint64_t sector_bytes = options.sector_bytes;
  if (!xts::IsSectorSize(sector_bytes))
    return Failure(Code::kArgument, "the sector size is not 512, 1024, 2048 or 4096");
  const bool encrypts = options.mode == TransformMode::kEncrypt;
  // The side that holds ciphertext has whole sectors; the other one ends within the last of them.
  const uint64_t cipher_bytes = encrypts ? options.target_bytes : options.source_bytes;
  const uint64_t plain_bytes = encrypts ? options.source_bytes : options.target_bytes;
  if (plain_bytes == 0 || cipher_bytes != RoundUp(plain_bytes, sector_bytes))
    return Failure(Code::kArgument, "the image does not end within the last sector of the volume");
  const bool in = std::holds_alternative<StreamSide>(options.source);
  const bool out = std::holds_alternative<StreamSide>(options.target);
  if (std::holds_alternative<ZerosSide>(options.source) && !encrypts)
    return Failure(Code::kArgument, "zeros are a source for encrypt only");
  if (in && !encrypts) return Failure(Code::kArgument, "only an image to encrypt can be read from a stream");
  if (out && options.mode == TransformMode::kCompare)
    return Failure(Code::kArgument, "an image that is compared with cannot be a stream");
  if (options.start_byte % kBufferBytes != 0 || options.start_byte > options.target_bytes)
    return Failure(Code::kArgument, "a transform begins at a whole MiB of the image");
  if (options.start_byte > 0 && (in || out || options.digest))
    return Failure(Code::kArgument, "a stream or a hash begins with the image");
  const auto* const image = std::get_if<FileSide>(&options.source);
  if (image && image->sparse && encrypts)
    return Failure(Code::kArgument, "only a volume can be a sparse source: an image's holes are read as zeros anyway");
  const auto* const volume = std::get_if<VolumeSide>(&options.source);
  if (volume && !encrypts && volume->sector_bytes != sector_bytes)
    return Failure(Code::kArgument, "the source has sectors of another size");
  if (Discards(options.target) && (encrypts || !IsSparse(options.target)))
    return Failure(Code::kArgument, "zeros are discarded in a sparse target of decrypt only");
  if (IsSparse(options.target) && options.mode == TransformMode::kCompare)
    return Failure(Code::kArgument, "a target that is compared with is not written, sparse or not");
  return Ok();
}

}  // namespace

Result<ImageTransform::Source> ImageTransform::OpenSource(const ImageTransformOptions& options) {
  Source source;
  if (const auto volume = VolumeOf(options)) {
    const uint64_t needed_bytes = RoundUp(options.source_bytes, volume->sector_bytes);
    auto opened = VolumeSource::Open(volume->regions, volume->sector_bytes, volume->sparse, needed_bytes);
    if (!opened.ok()) return opened.status();
    source.volume = std::move(opened.value());
  } else if (const auto* const file = std::get_if<FileSide>(&options.source)) {
    auto opened = ImageFile::Open(file->fd, file->offset_bytes, Access::kRead);
    if (!opened.ok()) return opened.status();
    source.file = std::move(opened.value());
    if (options.source_bytes > source.file.size_bytes())
      return Failure(Code::kArgument, "the source has " + std::to_string(source.file.size_bytes()) + " bytes, too few");
  } else if (const auto* const stream = std::get_if<StreamSide>(&options.source)) {
    auto opened = ImageStream::Open(stream->fd, Access::kRead);
    if (!opened.ok()) return opened.status();
    source.stream = std::move(opened.value());
  }
  return source;
}

Result<std::shared_ptr<ImageTransform>> ImageTransform::Open(const ImageTransformOptions& options) {
  if (Status status = CheckOptions(options); !status.ok()) return status;
  auto source = OpenSource(options);
  if (!source.ok()) return source.status();
  ImageFile target;
  ImageStream out;
  const bool compares = options.mode == TransformMode::kCompare;
  if (const auto* const file = std::get_if<FileSide>(&options.target)) {
    auto opened = ImageFile::Open(file->fd, file->offset_bytes, compares ? Access::kRead : Access::kReadWrite);
    if (!opened.ok()) return opened.status();
    target = std::move(opened.value());
    if (compares && target.size_bytes() < options.target_bytes)
      return Failure(Code::kArgument, "the target has " + std::to_string(target.size_bytes()) + " bytes, too few");
  } else {
    auto opened = ImageStream::Open(std::get<StreamSide>(options.target).fd, Access::kWrite);
    if (!opened.ok()) return opened.status();
    out = std::move(opened.value());
  }
  if (auto key = vault::Vault::OfProcess().PinVolumeKey(options.key); !key.ok()) return key.status();
  if (target.valid() && !compares) {
    Status status =
        IsSparse(options.target) ? target.Extend(options.target_bytes) : target.Reserve(options.target_bytes);
    if (!status.ok()) return status;
  }
  return std::shared_ptr<ImageTransform>(
      new ImageTransform(options, std::move(source.value()), std::move(target), std::move(out)));
}

ImageTransform::ImageTransform(const ImageTransformOptions& options, Source source, ImageFile target, ImageStream out)
    : options_(options),
      encrypts_(options.mode == TransformMode::kEncrypt),
      sparse_source_(IsSparseSource(options)),
      sparse_target_(IsSparse(options.target)),
      discards_(Discards(options.target)),
      in_turns_(options.digest || out.valid()),
      source_(std::move(source.file)),
      volume_(std::move(source.volume)),
      in_(std::move(source.stream)),
      target_(std::move(target)),
      out_(std::move(out)),
      queue_(options.start_byte, options.target_bytes, kBufferBytes) {}

Result<bool> ImageTransform::Run(size_t thread_count, std::chrono::milliseconds time) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Stopped();
  const Clock::time_point end = Clock::now() + time;
  std::vector<Status> outcomes(thread_count);
  const auto run = [&](size_t index) {
    outcomes[index] = RunThread(end);
    if (!outcomes[index].ok()) queue_.Fail();
  };
  std::vector<std::thread> threads;
  for (size_t index = 1; index < thread_count; ++index) {
    try {
      threads.emplace_back(run, index);
    } catch (const std::system_error&) {
      break;  // the system gives no more threads: fewer do the same work
    }
  }
  run(0);
  for (std::thread& thread : threads) thread.join();
  // The failure itself rather than the stop that it brought upon the others.
  std::stable_partition(outcomes.begin(), outcomes.end(),
                        [](const Status& outcome) { return !outcome.ok() && outcome.code != Code::kStopped; });
  for (Status& outcome : outcomes) {
    if (!outcome.ok()) return std::move(outcome);
  }
  if (queue_.stopped()) return Stopped();
  return queue_.HasMore();
}

Status ImageTransform::RunThread(Clock::time_point end) {
  static_assert(kHugePageBytes == 2 * kBufferBytes);
  HugePage page = BorrowPage();
  if (!page) return SystemFailure(ENOMEM, "mmap");
  const MutableBytes buffer = {page.get(), kBufferBytes};
  const MutableBytes other = {page.get() + kBufferBytes, kBufferBytes};
  Status status;
  while (status.ok() && Clock::now() < end) {
    auto piece = NextPiece(buffer);
    if (!piece.ok()) {
      status = piece.status();
      break;
    }
    if (!piece.value()) break;
    status = Transform(*piece.value(), buffer, other);
  }
  GiveBack(std::move(page));
  return status;
}

Result<std::optional<Piece>> ImageTransform::NextPiece(MutableBytes buffer) {
  if (!in_.valid()) return queue_.Take();
  const std::lock_guard one_reader(in_mutex_);
  const std::optional<Piece> piece = queue_.Take();
  if (!piece) return piece;
  const uint64_t available = std::min<uint64_t>(piece->length, options_.source_bytes - piece->start);
  const auto stopped = [this] { return queue_.stopped(); };
  Status status = in_.Read(piece->start, buffer.first(available), stopped);
  const uint64_t read_to = piece->start + available;
  if (status.ok() && read_to == options_.source_bytes) status = in_.ExpectEnd(read_to, stopped);
  if (!status.ok()) {
    queue_.Fail();  // before another thread reads on, and finds the same end at a later position
    return status;
  }
  return piece;
}

uint64_t ImageTransform::SkippableTo(const Piece& piece) const {
  // A hole of a full volume is ciphertext like any other.
  const bool zeros_stay = sparse_source_ || !volume_.valid();
  if (in_turns_ || in_.valid() || !zeros_stay || discards_) return piece.start;
  const uint64_t source_data = NextSourceData(piece.start);
  if (sparse_target_) return source_data;
  if (options_.mode == TransformMode::kCompare) return std::min(source_data, target_.NextData(piece.start));
  return piece.start;
}

Status ImageTransform::Transform(const Piece& piece, MutableBytes buffer, MutableBytes other) {
  const uint64_t skippable_to = SkippableTo(piece);
  if (skippable_to >= piece.start + piece.length) {
    queue_.Finish(piece);
    queue_.SkipTo(skippable_to);
    return Ok();
  }
  if (discards_ && sparse_source_ && !in_turns_ && NextSourceData(piece.start) >= piece.start + piece.length) {
    if (Status status = Discard(piece.start, piece.length); !status.ok()) return status;
    queue_.Finish(piece);
    return Ok();
  }
  const size_t sectors = RoundUp(piece.length, options_.sector_bytes) / options_.sector_bytes;
  const MutableBytes whole = buffer.first(sectors * options_.sector_bytes);
  Status status = FillFromSource(piece, buffer, whole.size());
  if (!status.ok()) return status;
  if (encrypts_) {
    auto key = vault::Vault::OfProcess().PinVolumeKey(options_.key);
    if (!key.ok()) return key.status();
    const xts::SectorRun run = {piece.start / xts::kTweakUnitBytes, options_.sector_bytes, sectors};
    const size_t image_bytes = std::min<uint64_t>(piece.length, options_.source_bytes - piece.start);
    if (out_.valid()) {
      const MutableBytes ciphertext = other.first(whole.size());
      xts::ActiveKernel().encrypt(key.value().schedule(), whole.data(), ciphertext.data(), run);
      status = TakeTurn(piece, whole.first(image_bytes), ciphertext.first(piece.length));
    } else if (in_turns_) {
      status = TakeTurn(piece, whole.first(image_bytes), {});
    }
    if (out_.valid() || !status.ok()) {
      // Written to the stream, or failed.
    } else if (sparse_target_) {
      // One run of data at a time: what is left out must not be encrypted, to stay recognisable as zeros.
      status = ForEachDataRun(whole, kHoleBytes, [&](size_t at, size_t length) {
        const uint64_t start = piece.start + at;
        const MutableBytes data = whole.subspan(at, length);
        xts::ActiveKernel().encrypt(
            key.value().schedule(), data.data(), data.data(),
            {start / xts::kTweakUnitBytes, options_.sector_bytes, length / options_.sector_bytes});
        return target_.Write(start, data);
      });
    } else {
      xts::ActiveKernel().encrypt(key.value().schedule(), whole.data(), whole.data(), run);
      status = target_.Write(piece.start, whole.first(piece.length));
    }
  } else {
    status = Deliver(piece, whole.first(piece.length), other);
  }
  if (status.ok()) queue_.Finish(piece);
  return status;
}

uint64_t ImageTransform::NextSourceData(uint64_t position) const {
  if (volume_.valid()) return volume_.NextData(position);
  return source_.valid() ? source_.NextData(position) : UINT64_MAX;
}

Status ImageTransform::FillFromSource(const Piece& piece, MutableBytes buffer, size_t wanted) const {
  const size_t available = std::min<uint64_t>(wanted, options_.source_bytes - piece.start);
  if (volume_.valid()) {
    // The last of its sectors may end behind the image.
    const MutableBytes sectors = buffer.first(RoundUp(available, volume_.sector_bytes()));
    if (Status status = volume_.Read(piece.start, sectors); !status.ok()) return status;
  } else if (source_.valid() && source_.NextData(piece.start) < piece.start + available) {
    if (Status status = source_.Read(piece.start, buffer.first(available)); !status.ok()) return status;
  } else if (!in_.valid()) {
    std::memset(buffer.data(), 0, available);
  }
  if (available < wanted) std::memset(buffer.data() + available, 0, wanted - available);
  return Ok();
}

Status ImageTransform::Deliver(const Piece& piece, Bytes plaintext, MutableBytes other) {
  if (in_turns_) {
    if (Status status = TakeTurn(piece, plaintext, out_.valid() ? plaintext : Bytes{}); !status.ok()) return status;
  }
  if (out_.valid()) return Ok();
  if (options_.mode == TransformMode::kCompare) return Compare(piece, plaintext, other);
  if (!sparse_target_) return target_.Write(piece.start, plaintext);
  Status discarded = ForEachZeroRun(plaintext, kHoleBytes,
                                    [&](size_t at, size_t length) { return Discard(piece.start + at, length); });
  if (!discarded.ok()) return discarded;
  return ForEachDataRun(plaintext, kHoleBytes, [&](size_t at, size_t length) {
    return target_.Write(piece.start + at, plaintext.subspan(at, length));
  });
}

Status ImageTransform::Discard(uint64_t start, uint64_t length) const {
  return discards_ ? target_.Discard(start, length) : Ok();
}

Status ImageTransform::Compare(const Piece& piece, Bytes plaintext, MutableBytes other) {
  const MutableBytes expected = other.first(plaintext.size());
  if (Status status = target_.Read(piece.start, expected); !status.ok()) return status;
  const auto [found, _] = std::mismatch(plaintext.begin(), plaintext.end(), expected.begin());
  if (found == plaintext.end()) return Ok();
  const uint64_t at = piece.start + static_cast<uint64_t>(found - plaintext.begin());
  const std::lock_guard guard(mutex_);
  difference_ = std::min(at, difference_.value_or(at));
  // Earlier pieces are under way or done: one of them may still hold the first difference, no later one can.
  queue_.CutAt(piece.start);
  return Ok();
}

Status ImageTransform::TakeTurn(const Piece& piece, Bytes plaintext, Bytes to_stream) {
  if (!queue_.AwaitTurn(piece)) return Stopped();
  if (options_.digest) sha256_.Update(plaintext);
  if (!to_stream.empty()) {
    const auto stopped = [this] { return queue_.stopped(); };
    const Bytes preamble = std::get<StreamSide>(options_.target).preamble;
    if (piece.start == 0 && !preamble.empty()) {
      if (Status status = out_.Write(0, preamble, stopped); !status.ok()) return status;
    }
    if (Status status = out_.Write(piece.start, to_stream, stopped); !status.ok()) return status;
  }
  queue_.EndTurn(piece);
  return Ok();
}

HugePage ImageTransform::BorrowPage() {
  const std::lock_guard guard(mutex_);
  if (free_pages_.empty()) return NewHugePage();
  HugePage page = std::move(free_pages_.back());
  free_pages_.pop_back();
  return page;
}

void ImageTransform::GiveBack(HugePage page) {
  const std::lock_guard guard(mutex_);
  free_pages_.push_back(std::move(page));
}

Result<ImageTransform::Digest> ImageTransform::TakeDigest() {
  if (!options_.digest || !queue_.AllDone())
    return Failure(Code::kArgument, "no digest was asked for, or it is not complete");
  const std::lock_guard guard(mutex_);
  if (!digest_) {
    Digest digest;
    if (!sha256_.Finish(digest)) return SystemFailure(ENOMEM, "EVP_DigestFinal_ex");
    digest_ = digest;
  }
  return *digest_;
}

std::optional<uint64_t> ImageTransform::difference() const {
  const std::lock_guard guard(mutex_);
  return difference_;
}

void ImageTransform::Close() {
  queue_.Stop();
  const std::unique_lock alone(lifetime_);
  closed_ = true;
  source_ = ImageFile();
  volume_ = VolumeSource();
  in_ = ImageStream();
  target_ = ImageFile();
  out_ = ImageStream();
}

}  // namespace volseal::engine
