#include "vault/locked_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/unique_fd.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447  // the same on every architecture that has it; older headers lack the name
#endif

namespace volseal::vault {
namespace {

Status Refused(const char* syscall, int error_number) {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  Status status = SystemFailure(error_number, syscall, std::nullopt, Code::kMemoryLock);
  status.message = "memory for keys cannot be locked (" + status.message + "; RLIMIT_MEMLOCK is " +
                   (limit.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_cur) + " bytes") + ")";
  return status;
}

// Reserves `length` bytes between two guard pages; returns where the bytes begin, or nullptr with errno.
uint8_t* Reserve(size_t length) {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const area = mmap(nullptr, length + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return area == MAP_FAILED ? nullptr : static_cast<uint8_t*>(area) + guard;
}

void Release(uint8_t* data, size_t length) {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  munmap(data - guard, length + 2 * guard);
}

}  // namespace

Result<LockedPages> MapLockedPages(size_t length) {
  uint8_t* const data = Reserve(length);
  if (!data) return Refused("mmap", errno);
  const auto refuse = [&](const char* syscall) -> Result<LockedPages> {
    const int error_number = errno;
    Release(data, length);
    return Refused(syscall, error_number);
  };

  const UniqueFd secret(static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC)));
  if (secret.valid() && ftruncate(secret.get(), static_cast<off_t>(length)) == 0) {
    if (mmap(data, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, secret.get(), 0) == MAP_FAILED)
      return refuse("mmap");
    if (madvise(data, length, MADV_DONTFORK) != 0)
      return refuse("madvise");  // shared pages: a child must not see them at all
    // Touch each page now: running out later would be a SIGBUS.
    for (size_t at = 0; at < length; at += 4096) static_cast<volatile uint8_t*>(data)[at] = 0;
    return LockedPages{data, length, Backend::kMemfdSecret};
  }
  // The kernel lacks it, or a sandbox forbids it, or a limit on the size of files (RLIMIT_FSIZE, EFBIG), which holds
  // for it as well. Anything else (no descriptor left, say) is a failure and no reason to be weaker.
  if (errno != ENOSYS && errno != EPERM && errno != EACCES && errno != EFBIG)
    return refuse(secret.valid() ? "ftruncate" : "memfd_secret");
  if (mmap(data, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    return refuse("mmap");
  if (madvise(data, length, MADV_DONTDUMP) != 0) return refuse("madvise");
  if (madvise(data, length, MADV_WIPEONFORK) != 0) return refuse("madvise");
  if (mlock(data, length) != 0) return refuse("mlock");
  return LockedPages{data, length, Backend::kMlock};
}

Status ForbidDumps() {
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return SystemFailure(errno, "prctl(PR_SET_DUMPABLE)");
  const rlimit none{};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return SystemFailure(errno, "setrlimit(RLIMIT_CORE)");
  return Ok();
}

}  // namespace volseal::vault
