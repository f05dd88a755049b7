#include "engine/pending_part.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "engine/zeros.h"
#include "xts/xts.h"

namespace volseal::engine {
namespace {

constexpr unsigned kNoexecSeal = 8;  // MFD_NOEXEC_SEAL of Linux 6.3

Status CheckOptions(const PendingPartOptions& options) {
  const MarkedPart& part = options.part;
  const bool fits = xts::IsSectorSize(part.forms.sector_bytes) && part.length > 0 && part.length <= kPartBytesMax &&
                    part.length % part.forms.sector_bytes == 0 && part.start % part.forms.sector_bytes == 0 &&
                    options.offset_bytes % kUnitBytes == 0;
  return fits ? Ok() : Failure(Code::kArgument, "a part is not whole sectors, or longer than 256 MiB");
}

}  // namespace

Status RebuildPendingPart(const PendingPartOptions& options) {
  if (Status status = CheckOptions(options); !status.ok()) return status;
  auto image = ImageFile::Open(options.image_fd, options.offset_bytes, Access::kRead);
  if (!image.ok()) return image.status();
  auto journal = ImageFile::Open(options.journal_fd, 0, Access::kRead);
  if (!journal.ok()) return journal.status();
  auto target = Duplicate(options.target_fd);
  if (!target.ok()) return target.status();
  const int fd = target.value().get();
  if (ftruncate(fd, static_cast<off_t>(options.part.length)) != 0) return SystemFailure(errno, "ftruncate");
  return RebuildPart(image.value(), journal.value(), options.part, [&](uint64_t at, Bytes piece) {
    return ForEachDataRun(piece, kHoleBytes,
                          [&](size_t run, size_t length) { return WriteAt(fd, at + run, piece.subspan(run, length)); });
  });
}

Result<UniqueFd> OpenMemoryFile() {
  // Systems may demand the seal (vm.memfd_noexec); older kernels do not know it.
  UniqueFd fd(memfd_create("volseal-part", MFD_CLOEXEC | kNoexecSeal));
  if (!fd.valid() && errno == EINVAL) fd = UniqueFd(memfd_create("volseal-part", MFD_CLOEXEC));
  if (!fd.valid()) return SystemFailure(errno, "memfd_create");
  return fd;
}

}  // namespace volseal::engine
