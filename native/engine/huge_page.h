// Memory for whole images: to the disk a piece in a huge page is one range of memory, where small pages make 256 that a
// virtual disk may have to take in several requests. Never holds a key.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace volseal::engine {

// Of x86-64, and of Arm with pages of 4 KiB.
constexpr size_t kHugePageBytes = size_t{2} << 20;

struct UnmapPage {
  void operator()(uint8_t* page) const { munmap(page, kHugePageBytes); }
};
using HugePage = std::unique_ptr<uint8_t, UnmapPage>;

// kHugePageBytes of zeros at a multiple of that, or nullptr where there is no memory. Mapped alone, so that the
// advice for a huge page ends with it. Where the system has none to give, small pages do the same.
inline HugePage NewHugePage() {
  void* const map = mmap(nullptr, 2 * kHugePageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  uint8_t* const start = static_cast<uint8_t*>(map);
  const size_t before = (kHugePageBytes - reinterpret_cast<uintptr_t>(start) % kHugePageBytes) % kHugePageBytes;
  if (before > 0) munmap(start, before);
  munmap(start + before + kHugePageBytes, kHugePageBytes - before);
  static_cast<void>(madvise(start + before, kHugePageBytes, MADV_HUGEPAGE));
  return HugePage(start + before);
}

}  // namespace volseal::engine
