// A part that is in the middle of its way, for those who only read: the image on the disk stays as it is.
#pragma once

#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/part_marks.h"

namespace volseal::engine {

struct PendingPartOptions {
  int image_fd;
  int journal_fd;
  int target_fd;          // an empty file
  uint64_t offset_bytes;  // where the image begins in its file
  MarkedPart part;
};

// Writes the part, all of it in the marked form, into the target; zeros become holes. kArgument where the options do
// not fit together; the rest as RebuildPart.
Status RebuildPendingPart(const PendingPartOptions& options);

// An empty file in memory, for ciphertext (memfd_create).
Result<UniqueFd> OpenMemoryFile();

}  // namespace volseal::engine
