// An image that is encrypted, decrypted or re-encrypted where it is, part after part, through a journal.
//
// Each part is first taken out of its old place: into the journal, always encrypted, or where the image keeps its place
// only its marks (part_marks.h). When that is on the disk (and the caller has recorded it), the part is put into its
// new place. A crash at any time leaves all that is needed to put it once more. While one part is put, the next one is
// taken: neither touches what the other reads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/image_file.h"
#include "engine/part_marks.h"
#include "vault/vault.h"

namespace volseal::engine {

constexpr size_t kMoveSlots = 2;

// One of the two forms of the image in its file.
struct ImageForm {
  uint64_t offset_bytes;                // where the image begins
  std::optional<vault::KeyHandle> key;  // nothing: plaintext
};

struct MoveOptions {
  int image_fd;
  int journal_fd;
  std::array<uint64_t, kMoveSlots> slot_offsets;  // in the journal, each with room for part_bytes, or their marks
  uint64_t part_bytes;                            // a multiple of kBufferBytes
  uint64_t image_bytes;                           // whole sectors
  uint32_t sector_bytes;
  bool sparse;  // sectors of zeros stay zeros, in every form
  bool marks;   // the journal holds marks: the two forms begin at the same offset
  ImageForm low;
  ImageForm high;  // its offset is not below that of `low`
};

// From the low form to the high one, or back.
enum class MoveDirection { kToHigh, kToLow };

struct MovePart {
  uint64_t start;  // in the image, a multiple of part_bytes
  uint64_t length;
  size_t slot;
};

class ImageMove {
 public:
  // kArgument where the options do not fit together; kIo where there is no room for what is to be written.
  static Result<std::shared_ptr<ImageMove>> Open(const MoveOptions& options);

  // Takes one part and puts another, with `thread_count` threads; both are on the disk (fdatasync) when it returns.
  // Gives the digest of what went into the journal.
  Result<std::optional<PartDigest>> Run(MoveDirection direction, const std::optional<MovePart>& take,
                                        const std::optional<MovePart>& put, size_t thread_count);
  // Reads what an earlier process has taken in that direction, so that it can be put. kResume where the journal does
  // not hold what has this digest, or a unit on the disk is in neither form.
  Status ReadBack(MoveDirection direction, const MovePart& part, const PartDigest& digest);
  // Whether the file system holds no data for the part where it is now: nothing is to be done for it in a sparse image
  // that keeps its place.
  Result<bool> IsHole(MoveDirection direction, const MovePart& part);

  void Close();

 private:
  // All open, or none.
  struct Files {
    UniqueFd image_fd;
    UniqueFd journal_fd;
    ImageFile low;
    ImageFile high;
    ImageFile journal;
  };

  ImageMove(const MoveOptions& options, Files files);

  const ImageForm& From(MoveDirection direction) const;
  const ImageForm& To(MoveDirection direction) const;
  const ImageFile& FileFrom(MoveDirection direction) const;
  const ImageFile& FileTo(MoveDirection direction) const;
  Status CheckPart(const MovePart& part) const;
  // Gives the digest of what went into the journal for the piece.
  Result<PartDigest> TakePiece(MoveDirection direction, const MovePart& part, size_t index, MutableBytes scratch);
  Status PutPiece(MoveDirection direction, const MovePart& part, size_t index, MutableBytes scratch);
  Status ReadDataBack(const MovePart& part, const PartDigest& digest);
  Status ReadMarksBack(MoveDirection direction, const MovePart& part, const PartDigest& digest);
  Status Crypt(vault::KeyHandle key, bool encrypts, uint64_t position, MutableBytes sectors) const;
  MutableBytes PieceOf(const MovePart& part, size_t index);

  struct Unmap {
    size_t bytes;
    void operator()(uint8_t* map) const;
  };
  using Memory = std::unique_ptr<uint8_t, Unmap>;
  static Memory NewMemory(size_t bytes);

  const MoveOptions options_;
  Files files_;
  std::array<Memory, kMoveSlots> slots_;
  std::shared_mutex lifetime_;
  bool closed_ = false;
};

}  // namespace volseal::engine
