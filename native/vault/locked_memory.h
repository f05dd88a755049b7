// Pages that hold keys: locked, never swapped, never dumped, never inherited by a fork, with a guard page on either
// side.
//
// memfd_secret(2) where the kernel has it: such pages are out of the kernel's own map, and nobody reads them through
// /proc or ptrace. Else anonymous pages with mlock, MADV_DONTDUMP and MADV_WIPEONFORK. A refusal is an error, never
// ignored.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace volseal::vault {

enum class Backend { kMemfdSecret, kMlock };

struct LockedPages {
  uint8_t* data;  // page-aligned, zeroed; lives as long as the process
  size_t length;
  Backend backend;
};

// Maps `length` bytes (a multiple of the page size). kMemoryLock where the memory cannot be had or locked.
Result<LockedPages> MapLockedPages(size_t length);

// No core dumps of this process, and no reading of its memory by other processes of the same user (PR_SET_DUMPABLE 0,
// RLIMIT_CORE 0). For programs, not for libraries: it changes what a debugger may do.
Status ForbidDumps();

}  // namespace volseal::vault
