#include "base/wipe.h"

#include <cstdint>
#include <cstring>

namespace volseal {

void Wipe(void* memory, size_t length) {
  // Of nothing there may be no address.
  if (length > 0) explicit_bzero(memory, length);
}

__attribute__((noinline)) void WipeUsedStack() {
  uint8_t below[65536];
  explicit_bzero(below, sizeof below);
}

__attribute__((noinline)) void WipeStackBelow() {
  uint8_t below[1536];
  explicit_bzero(below, sizeof below);
}

}  // namespace volseal
