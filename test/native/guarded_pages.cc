#include "guarded_pages.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

namespace volseal::xts_test {
namespace {

constexpr size_t kGuardBytes = 65536;  // a page on every machine

[[noreturn]] void Die(const char* call) {
  std::perror(call);
  std::abort();
}

}  // namespace

GuardedPages::GuardedPages(size_t byte_count) : byte_count_(byte_count) {
  void* const area =
      mmap(nullptr, byte_count + 2 * kGuardBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) Die("mmap");
  begin_ = static_cast<uint8_t*>(area) + kGuardBytes;
  if (mprotect(begin_, byte_count, PROT_READ | PROT_WRITE) != 0) Die("mprotect");
}

GuardedPages::~GuardedPages() { munmap(begin_ - kGuardBytes, byte_count_ + 2 * kGuardBytes); }

}  // namespace volseal::xts_test
