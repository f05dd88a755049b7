#include "engine/page_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace volseal::engine {

bool PageCache::Holds(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  const uint64_t index = offset / kWindowBytes;
  const uint64_t cells = Cells(index);
  // Reads of this window may reach ahead into the next one.
  if (cells != 0) Cells(index + 1);
  return (cells >> (offset % kWindowBytes / kCellBytes) & 1) != 0;
}

uint64_t PageCache::Cells(uint64_t index) {
  Window& window = windows_[index % windows_.size()];
  if (window.index != index) window = {index, Look(index)};
  return window.cells;
}

uint64_t PageCache::Look(uint64_t index) const {
  const uint64_t begin = index * kWindowBytes;
  if (begin >= size_bytes_) return 0;
  const size_t length = std::min(kWindowBytes, size_bytes_ - begin);
  void* const map = mmap(nullptr, length, PROT_READ, MAP_SHARED, fd_, static_cast<off_t>(begin));
  if (map == MAP_FAILED) return 0;
  const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((length + page_bytes - 1) / page_bytes);
  const bool known = mincore(map, length, pages.data()) == 0;
  munmap(map, length);
  if (!known) return 0;

  const size_t pages_a_cell = kCellBytes / page_bytes;
  uint64_t cells = 0;
  for (size_t first = 0; first < pages.size(); first += pages_a_cell) {
    const size_t count = std::min(pages_a_cell, pages.size() - first);
    const auto cell = pages.begin() + static_cast<std::ptrdiff_t>(first);
    const auto cached = std::count_if(cell, cell + static_cast<std::ptrdiff_t>(count),
                                      [](unsigned char page) { return (page & 1) != 0; });
    if (static_cast<size_t>(cached) * 2 > count) cells |= uint64_t{1} << (first / pages_a_cell);
  }
  return cells;
}

}  // namespace volseal::engine
