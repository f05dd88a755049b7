// What of a file the page cache held before this process came near it. What is read from there is fetched ahead by the
// system, by 8 MiB on some disks: asked piece by piece, one cached piece would make the next one look cached, and so on
// to the file's end. So each range is asked about once, well before the reads come close.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

namespace volseal::engine {

class PageCache {
 public:
  // `fd` stays open as long as this lives. `size_bytes` of the file.
  PageCache(int fd, uint64_t size_bytes) : fd_(fd), size_bytes_(size_bytes) {}

  // Whether most of the MiB around `offset` was cached. From any thread.
  bool Holds(uint64_t offset);

 private:
  static constexpr uint64_t kCellBytes = uint64_t{1} << 20;
  static constexpr uint64_t kCells = 64;
  static constexpr uint64_t kWindowBytes = kCells * kCellBytes;  // far beyond any readahead

  struct Window {
    uint64_t index = UINT64_MAX;
    uint64_t cells = 0;  // a bit each
  };

  // With the mutex held: of the window at `index`, as it was when it was first asked for.
  uint64_t Cells(uint64_t index);
  // As it is now. Nothing where the system does not tell.
  uint64_t Look(uint64_t index) const;

  const int fd_;
  const uint64_t size_bytes_;
  std::mutex mutex_;
  // More than are in use at a time: lanes are a few pieces apart.
  std::array<Window, 4> windows_;
};

}  // namespace volseal::engine
