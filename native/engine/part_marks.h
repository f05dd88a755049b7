// Of a part that keeps its place a journal needs no copy. Its marks are enough: 16 bytes of ciphertext for each unit of
// 512 bytes, by which each unit on the disk is recognised as still in the old form or already in the new one.
//
// The marks are of the form that has a key: the new one, or the old one where the new form is plaintext. A unit is in
// the marked form where its bytes fit its mark, and in the other form where they fit once they are brought into the
// marked form. What fits in neither way was written in part, or by somebody else, and is refused: nothing is guessed.
//
// A disk must write 512 bytes whole or not at all. Sectors of 4096 bytes may be put together of both forms.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/image_file.h"
#include "engine/sha256.h"
#include "vault/vault.h"

namespace volseal::engine {

constexpr uint64_t kPartBytesMax = uint64_t{256} << 20;
constexpr size_t kUnitBytes = 512;
constexpr size_t kMarkBytes = 16;

constexpr uint64_t MarksBytes(uint64_t bytes) { return bytes / kUnitBytes * kMarkBytes; }

// SHA-256 over the SHA-256 of what the slot holds for each kBufferBytes of a part.
using PartDigest = std::array<uint8_t, Sha256::kBytes>;

Result<PartDigest> DigestOf(Bytes bytes);
Result<PartDigest> DigestOf(const std::vector<PartDigest>& pieces);

struct MarkedForms {
  vault::KeyHandle marked;                // of the form that the marks are of
  std::optional<vault::KeyHandle> other;  // nothing: plaintext
  uint32_t sector_bytes;
  bool sparse;  // sectors of zeros stay zeros in both forms
};

// The first and the last 8 bytes of each unit. `marks` has MarksBytes of them.
void TakeMarks(Bytes sectors, MutableBytes marks);

// Brings whole sectors, each unit in one of the two forms, into the marked form. `position` is that of the sectors in
// the image; `scratch` is as long as they are. kResume, with the unit's place in the image, where a unit is in neither
// form; then `sectors` are not what they were.
Status ToMarkedForm(const MarkedForms& forms, uint64_t position, Bytes marks, MutableBytes sectors,
                    MutableBytes scratch);

// A part of which a journal holds the marks.
struct MarkedPart {
  uint64_t start;  // in the image
  uint64_t length;
  uint64_t slot_offset;  // in the journal
  PartDigest digest;
  MarkedForms forms;
};

// Reads the part from its place, and gives each kBufferBytes of it in the marked form, in order, with its place in the
// part. kResume where the marks are not those of the digest, and as ToMarkedForm.
Status RebuildPart(const ImageFile& image, const ImageFile& journal, const MarkedPart& part,
                   const std::function<Status(uint64_t at, Bytes piece)>& give);

// kResume: a journal does not hold what its record says.
Status NotAsTaken();

}  // namespace volseal::engine
