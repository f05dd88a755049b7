#include "engine/in_place.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "engine/aligned_buffer.h"
#include "engine/crypt_sectors.h"
#include "engine/file.h"
#include "engine/holes.h"
#include "engine/zeros.h"
#include "xts/xts.h"

namespace volseal::engine {
namespace {

size_t PieceCount(const std::optional<MovePart>& part) {
  return part ? (part->length + kBufferBytes - 1) / kBufferBytes : 0;
}

uint64_t SlotBytes(const MoveOptions& options) {
  return options.marks ? MarksBytes(options.part_bytes) : options.part_bytes;
}

Status CheckOptions(const MoveOptions& options) {
  const auto fail = [](const char* what) { return Failure(Code::kArgument, what); };
  if (!xts::IsSectorSize(options.sector_bytes)) return fail("the sector size is not 512, 1024, 2048 or 4096");
  if (options.part_bytes == 0 || options.part_bytes % kBufferBytes != 0 || options.part_bytes > kPartBytesMax)
    return fail("a part is not a number of MiB, 256 at most");
  if (options.image_bytes == 0 || options.image_bytes % options.sector_bytes != 0)
    return fail("the image has no whole number of sectors");
  if (options.high.offset_bytes < options.low.offset_bytes) return fail("the high form begins before the low one");
  if (options.high.offset_bytes - options.low.offset_bytes > options.part_bytes)
    return fail("the forms are further apart than a part is long");
  if (!options.low.key && !options.high.key) return fail("neither form has a key");
  if (options.marks && options.high.offset_bytes != options.low.offset_bytes)
    return fail("what moves needs more than marks in the journal");
  if (options.marks && options.low.offset_bytes % kUnitBytes != 0) return fail("the image begins inside a unit");
  const auto [first, second] = options.slot_offsets;
  if (std::max(first, second) - std::min(first, second) < SlotBytes(options)) return fail("the slots overlap");
  return Ok();
}

Status Assign(ImageFile& file, int fd, uint64_t offset_bytes) {
  auto opened = ImageFile::Open(fd, offset_bytes, Access::kReadWrite);
  if (opened.ok()) file = std::move(opened.value());
  return opened.ok() ? Ok() : opened.status();
}

// The first failure of the threads that share a run.
class FirstFailure {
 public:
  bool failed() const { return failed_; }
  void Add(Status status) {
    if (status.ok() || failed_.exchange(true)) return;
    status_ = std::move(status);
  }
  Status Take() { return std::move(status_); }  // once the threads have ended

 private:
  std::atomic<bool> failed_ = false;
  Status status_;
};

}  // namespace

void ImageMove::Unmap::operator()(uint8_t* map) const { munmap(map, bytes); }

ImageMove::Memory ImageMove::NewMemory(size_t bytes) {
  void* const map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return {nullptr, Unmap{bytes}};
  static_cast<void>(madvise(map, bytes, MADV_HUGEPAGE));
  return {static_cast<uint8_t*>(map), Unmap{bytes}};
}

Result<std::shared_ptr<ImageMove>> ImageMove::Open(const MoveOptions& options) {
  if (Status status = CheckOptions(options); !status.ok()) return status;
  for (const ImageForm* form : {&options.low, &options.high}) {
    if (!form->key) continue;
    if (auto key = vault::Vault::OfProcess().PinVolumeKey(*form->key); !key.ok()) return key.status();
  }
  Files files;
  // Duplicated first: the caller's numbers may be other files a moment later.
  auto image = Duplicate(options.image_fd), journal = Duplicate(options.journal_fd);
  if (!image.ok()) return image.status();
  if (!journal.ok()) return journal.status();
  files.image_fd = std::move(image.value());
  files.journal_fd = std::move(journal.value());
  const int image_fd = files.image_fd.get();
  if (Status status = Assign(files.low, image_fd, options.low.offset_bytes); !status.ok()) return status;
  if (Status status = Assign(files.high, image_fd, options.high.offset_bytes); !status.ok()) return status;
  if (Status status = Assign(files.journal, files.journal_fd.get(), 0); !status.ok()) return status;
  if (files.high.size_bytes() < options.image_bytes)
    return Failure(Code::kArgument, "the file has no room for the image in its high form");
  const uint64_t journal_bytes = std::max(options.slot_offsets[0], options.slot_offsets[1]) + SlotBytes(options);
  if (Status status = files.journal.Reserve(journal_bytes); !status.ok()) return status;
  if (!options.sparse) {
    const uint64_t distance = options.high.offset_bytes - options.low.offset_bytes;
    if (Status status = files.low.Reserve(distance + options.image_bytes); !status.ok()) return status;
  }
  std::shared_ptr<ImageMove> move(new ImageMove(options, std::move(files)));
  for (const Memory& slot : move->slots_) {
    if (!slot) return SystemFailure(ENOMEM, "mmap");
  }
  return move;
}

ImageMove::ImageMove(const MoveOptions& options, Files files)
    : options_(options),
      files_(std::move(files)),
      slots_{NewMemory(options.part_bytes), NewMemory(options.part_bytes)} {}

const ImageForm& ImageMove::From(MoveDirection direction) const {
  return direction == MoveDirection::kToHigh ? options_.low : options_.high;
}
const ImageForm& ImageMove::To(MoveDirection direction) const {
  return direction == MoveDirection::kToHigh ? options_.high : options_.low;
}
const ImageFile& ImageMove::FileFrom(MoveDirection direction) const {
  return direction == MoveDirection::kToHigh ? files_.low : files_.high;
}
const ImageFile& ImageMove::FileTo(MoveDirection direction) const {
  return direction == MoveDirection::kToHigh ? files_.high : files_.low;
}

Status ImageMove::CheckPart(const MovePart& part) const {
  const bool fits = part.slot < kMoveSlots && part.start % options_.part_bytes == 0 && part.length > 0 &&
                    part.length <= options_.part_bytes && part.length % options_.sector_bytes == 0 &&
                    part.start < options_.image_bytes && part.length <= options_.image_bytes - part.start;
  return fits ? Ok() : Failure(Code::kArgument, "a part is not inside the image, or not inside its slot");
}

MutableBytes ImageMove::PieceOf(const MovePart& part, size_t index) {
  const uint64_t at = uint64_t{index} * kBufferBytes;
  return {slots_[part.slot].get() + at, static_cast<size_t>(std::min<uint64_t>(kBufferBytes, part.length - at))};
}

Status ImageMove::Crypt(vault::KeyHandle key, bool encrypts, uint64_t position, MutableBytes sectors) const {
  const Zeros zeros = options_.sparse ? Zeros::kKept : Zeros::kCrypted;
  return CryptSectors(key, encrypts, position, options_.sector_bytes, zeros, sectors);
}

Result<PartDigest> ImageMove::TakePiece(MoveDirection direction, const MovePart& part, size_t index,
                                        MutableBytes scratch) {
  const ImageForm &from = From(direction), &to = To(direction);
  const uint64_t at = uint64_t{index} * kBufferBytes, position = part.start + at;
  const MutableBytes piece = PieceOf(part, index);
  if (Status status = FileFrom(direction).Read(position, piece); !status.ok()) return status;
  // Into a form without a key the part goes as ciphertext, and is decrypted on its way out of the slot.
  if (to.key) {
    if (from.key) {
      if (Status status = Crypt(*from.key, false, position, piece); !status.ok()) return status;
    }
    if (Status status = Crypt(*to.key, true, position, piece); !status.ok()) return status;
  }
  Bytes logged = piece;
  if (options_.marks) {
    const MutableBytes marks = scratch.first(MarksBytes(piece.size()));
    TakeMarks(piece, marks);
    logged = marks;
  }
  const uint64_t logged_at = options_.marks ? MarksBytes(at) : at;
  Status status = files_.journal.Write(options_.slot_offsets[part.slot] + logged_at, logged);
  if (!status.ok()) return status;
  return DigestOf(logged);
}

Status ImageMove::PutPiece(MoveDirection direction, const MovePart& part, size_t index, MutableBytes scratch) {
  const ImageForm &from = From(direction), &to = To(direction);
  const uint64_t position = part.start + uint64_t{index} * kBufferBytes;
  Bytes bytes = PieceOf(part, index);
  if (!to.key) {
    const MutableBytes plaintext = scratch.first(bytes.size());
    std::memcpy(plaintext.data(), bytes.data(), bytes.size());
    if (Status status = Crypt(*from.key, false, position, plaintext); !status.ok()) return status;
    bytes = plaintext;
  }
  const ImageFile& file = FileTo(direction);
  if (!options_.sparse) return file.Write(position, bytes);
  Status status = ForEachZeroRun(bytes, kHoleBytes, [&](size_t at, size_t length) {
    // What keeps its place is a hole there already, unless its zeros were written and encrypted.
    if (from.offset_bytes == to.offset_bytes && file.NextData(position + at) >= position + at + length) return Ok();
    return PunchHole(files_.image_fd.get(), to.offset_bytes + position + at, length);
  });
  if (!status.ok()) return status;
  return ForEachDataRun(bytes, kHoleBytes,
                        [&](size_t at, size_t length) { return file.Write(position + at, bytes.subspan(at, length)); });
}

Result<std::optional<PartDigest>> ImageMove::Run(MoveDirection direction, const std::optional<MovePart>& take,
                                                 const std::optional<MovePart>& put, size_t thread_count) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Failure(Code::kStopped, "the move was closed");
  for (const auto& part : {take, put}) {
    if (!part) continue;
    if (Status status = CheckPart(*part); !status.ok()) return status;
  }
  if (take && put && take->slot == put->slot)
    return Failure(Code::kArgument, "one slot cannot be taken into and put from");
  const size_t takes = PieceCount(take), puts = PieceCount(put);
  std::vector<PartDigest> digests(takes);
  std::atomic<size_t> next = 0;
  FirstFailure failure;
  const auto take_piece = [&](size_t index, MutableBytes scratch) -> Status {
    auto digest = TakePiece(direction, *take, index, scratch);
    if (!digest.ok()) return digest.status();
    digests[index] = digest.value();
    return Ok();
  };
  const auto run = [&] {
    const AlignedBuffer buffer = NewBuffer();
    if (!buffer) return failure.Add(SystemFailure(ENOMEM, "aligned_alloc"));
    const MutableBytes scratch = {buffer.get(), kBufferBytes};
    for (size_t index = next++; index < takes + puts && !failure.failed(); index = next++) {
      // In turns as far as there are both, so that reads and writes meet at the disk.
      const size_t both = 2 * std::min(takes, puts);
      const bool takes_one = index < both ? index % 2 == 0 : takes > puts;
      const size_t which = index < both ? index / 2 : index - both / 2;
      failure.Add(takes_one ? take_piece(which, scratch) : PutPiece(direction, *put, which, scratch));
    }
  };
  std::vector<std::thread> threads;
  for (size_t index = 1; index < std::min(thread_count, takes + puts); ++index) {
    try {
      threads.emplace_back(run);
    } catch (const std::system_error&) {
      break;  // the system gives no more threads: fewer do the same work
    }
  }
  run();
  for (std::thread& thread : threads) thread.join();
  if (failure.failed()) return failure.Take();
  if (take) {
    if (Status status = SyncData(files_.journal_fd.get()); !status.ok()) return status;
  }
  if (put) {
    if (Status status = SyncData(files_.image_fd.get()); !status.ok()) return status;
  }
  if (!take) return std::optional<PartDigest>{};
  auto digest = DigestOf(digests);
  if (!digest.ok()) return digest.status();
  return std::optional<PartDigest>{digest.value()};
}

Status ImageMove::ReadBack(MoveDirection direction, const MovePart& part, const PartDigest& digest) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Failure(Code::kStopped, "the move was closed");
  if (Status status = CheckPart(part); !status.ok()) return status;
  return options_.marks ? ReadMarksBack(direction, part, digest) : ReadDataBack(part, digest);
}

Status ImageMove::ReadDataBack(const MovePart& part, const PartDigest& digest) {
  std::vector<PartDigest> digests;
  for (size_t index = 0; index < PieceCount(part); ++index) {
    const MutableBytes piece = PieceOf(part, index);
    const uint64_t at = options_.slot_offsets[part.slot] + uint64_t{index} * kBufferBytes;
    if (Status status = files_.journal.Read(at, piece); !status.ok()) return status;
    auto found = DigestOf(piece);
    if (!found.ok()) return found.status();
    digests.push_back(found.value());
  }
  auto found = DigestOf(digests);
  if (!found.ok()) return found.status();
  return found.value() == digest ? Ok() : NotAsTaken();
}

Status ImageMove::ReadMarksBack(MoveDirection direction, const MovePart& part, const PartDigest& digest) {
  const ImageForm &from = From(direction), &to = To(direction);
  const MarkedPart marked = {
      .start = part.start,
      .length = part.length,
      .slot_offset = options_.slot_offsets[part.slot],
      .digest = digest,
      .forms = {.marked = to.key ? *to.key : *from.key,
                .other = to.key ? from.key : std::nullopt,
                .sector_bytes = options_.sector_bytes,
                .sparse = options_.sparse},
  };
  return RebuildPart(FileFrom(direction), files_.journal, marked, [&](uint64_t at, Bytes piece) {
    std::memcpy(slots_[part.slot].get() + at, piece.data(), piece.size());
    return Ok();
  });
}

Result<bool> ImageMove::IsHole(MoveDirection direction, const MovePart& part) {
  const std::shared_lock alive(lifetime_);
  if (closed_) return Failure(Code::kStopped, "the move was closed");
  if (Status status = CheckPart(part); !status.ok()) return status;
  return FileFrom(direction).NextData(part.start) >= part.start + part.length;
}

void ImageMove::Close() {
  const std::unique_lock alone(lifetime_);
  closed_ = true;
  files_ = Files();
  for (Memory& slot : slots_) slot.reset();
}

}  // namespace volseal::engine
