#include "engine/part_marks.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "engine/aligned_buffer.h"
#include "engine/crypt_sectors.h"
#include "engine/zeros.h"

namespace volseal::engine {
namespace {

constexpr size_t kHalfBytes = kMarkBytes / 2;

bool Fits(const uint8_t* unit, const uint8_t* mark) {
  return std::memcmp(unit, mark, kHalfBytes) == 0 &&
         std::memcmp(unit + kUnitBytes - kHalfBytes, mark + kHalfBytes, kHalfBytes) == 0;
}

Status InNeitherForm(uint64_t place) {
  Status status = Failure(Code::kResume,
                          "the 512 bytes at byte " + std::to_string(place) +
                              " of the image are neither as they were nor as the job makes them: the disk has written "
                              "only some of them, or something else has changed them");
  status.offset_bytes = place;
  return status;
}

}  // namespace

Status NotAsTaken() { return Failure(Code::kResume, "what was taken last is not in it as it was"); }

Result<PartDigest> DigestOf(Bytes bytes) {
  Sha256 sha256;
  sha256.Update(bytes);
  PartDigest digest;
  if (!sha256.Finish(digest)) return SystemFailure(ENOMEM, "EVP_DigestFinal_ex");
  return digest;
}

Result<PartDigest> DigestOf(const std::vector<PartDigest>& pieces) {
  return DigestOf(Bytes{pieces.data()->data(), pieces.size() * Sha256::kBytes});
}

void TakeMarks(Bytes sectors, MutableBytes marks) {
  uint8_t* mark = marks.data();
  for (size_t at = 0; at < sectors.size(); at += kUnitBytes, mark += kMarkBytes) {
    const uint8_t* const unit = sectors.data() + at;
    std::memcpy(mark, unit, kHalfBytes);
    std::memcpy(mark + kHalfBytes, unit + kUnitBytes - kHalfBytes, kHalfBytes);
  }
}

Status ToMarkedForm(const MarkedForms& forms, uint64_t position, Bytes marks, MutableBytes sectors,
                    MutableBytes scratch) {
  std::vector<size_t> others;  // the units that do not fit their marks as they are
  for (size_t at = 0; at < sectors.size(); at += kUnitBytes) {
    if (!Fits(sectors.data() + at, marks.data() + MarksBytes(at))) others.push_back(at);
  }
  if (others.empty()) return Ok();
  // Whole sectors go through the cipher, which takes each 16 bytes by themselves: what becomes of the units that are in
  // the marked form already does not count.
  const MutableBytes brought = scratch.first(sectors.size());
  std::memcpy(brought.data(), sectors.data(), sectors.size());
  if (forms.other) {
    Status status = CryptSectors(*forms.other, false, position, forms.sector_bytes, Zeros::kCrypted, brought);
    if (!status.ok()) return status;
  }
  // Zeros were ciphertext in a sparse volume, and become a hole: their sector has marks of zeros.
  const auto becomes_hole = [&](size_t at) {
    const size_t sector = at / forms.sector_bytes * forms.sector_bytes;
    return forms.sparse && IsZeros(marks.subspan(MarksBytes(sector), MarksBytes(forms.sector_bytes)));
  };
  for (size_t at : others) {
    if (!becomes_hole(at)) continue;
    if (!IsZeros(brought.subspan(at, kUnitBytes))) return InNeitherForm(position + at);
    std::memset(sectors.data() + at, 0, kUnitBytes);
  }
  Status status = CryptSectors(forms.marked, true, position, forms.sector_bytes, Zeros::kCrypted, brought);
  if (!status.ok()) return status;
  for (size_t at : others) {
    if (becomes_hole(at)) continue;
    if (!Fits(brought.data() + at, marks.data() + MarksBytes(at))) return InNeitherForm(position + at);
    std::memcpy(sectors.data() + at, brought.data() + at, kUnitBytes);
  }
  return Ok();
}

Status RebuildPart(const ImageFile& image, const ImageFile& journal, const MarkedPart& part,
                   const std::function<Status(uint64_t at, Bytes piece)>& give) {
  std::vector<uint8_t> marks(MarksBytes(part.length));
  if (Status status = journal.Read(part.slot_offset, marks); !status.ok()) return status;
  // All of them are proved before the first one is used.
  std::vector<PartDigest> digests;
  constexpr size_t kPieceMarks = MarksBytes(kBufferBytes);
  for (size_t at = 0; at < marks.size(); at += kPieceMarks) {
    auto digest = DigestOf(Bytes(marks).subspan(at, std::min(kPieceMarks, marks.size() - at)));
    if (!digest.ok()) return digest.status();
    digests.push_back(digest.value());
  }
  auto found = DigestOf(digests);
  if (!found.ok()) return found.status();
  if (found.value() != part.digest) return NotAsTaken();
  const AlignedBuffer buffer = NewBuffer(), scratch = NewBuffer();
  if (!buffer || !scratch) return SystemFailure(ENOMEM, "aligned_alloc");
  for (uint64_t at = 0; at < part.length; at += kBufferBytes) {
    const MutableBytes piece = {buffer.get(), static_cast<size_t>(std::min<uint64_t>(kBufferBytes, part.length - at))};
    if (Status status = image.Read(part.start + at, piece); !status.ok()) return status;
    Status status =
        ToMarkedForm(part.forms, part.start + at, Bytes(marks).subspan(MarksBytes(at), MarksBytes(piece.size())), piece,
                     {scratch.get(), kBufferBytes});
    if (!status.ok()) return status;
    if (status = give(at, piece); !status.ok()) return status;
  }
  return Ok();
}

}  // namespace volseal::engine
