// Memory between two pages that may not be touched: a kernel that reads or writes one byte too many ends the program
// with SIGSEGV.
#pragma once

#include <cstddef>
#include <cstdint>

namespace volseal::xts_test {

class GuardedPages {
 public:
  // Room for `byte_count` bytes, a multiple of the page size (4096 to 64 KiB).
  explicit GuardedPages(size_t byte_count);
  ~GuardedPages();
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;

  // The first byte follows the page in front.
  uint8_t* Front() const { return begin_; }
  // Where `byte_count` bytes begin whose last one precedes the page behind.
  uint8_t* Back(size_t byte_count) const { return begin_ + byte_count_ - byte_count; }

 private:
  uint8_t* begin_;
  size_t byte_count_;
};

}  // namespace volseal::xts_test
