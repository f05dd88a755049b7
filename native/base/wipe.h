// Wiping memory that held keys, tweaks or plaintext of keys, in a way that no optimiser removes.
#pragma once

#include <cstddef>

namespace volseal {

void Wipe(void* memory, size_t length);

// Overwrites the stack that earlier, deeper calls of this thread have used (64 KiB below the caller): what hash
// functions and cipher set-ups left there, and what Node's TLS left, which decrypts into an array of 16 KiB on the
// stack. About 1 us.
void WipeUsedStack();

// Overwrites 1.5 KiB of the stack below the caller: what one function that it called has spilled, as long as its frame
// is smaller than that. About 15 ns.
void WipeStackBelow();

// Wipes an object when its scope ends.
template <typename T>
class WipeOnExit {
 public:
  explicit WipeOnExit(T& object) : object_(object) {}
  ~WipeOnExit() { Wipe(&object_, sizeof(T)); }
  WipeOnExit(const WipeOnExit&) = delete;
  WipeOnExit& operator=(const WipeOnExit&) = delete;

 private:
  T& object_;
};

}  // namespace volseal
