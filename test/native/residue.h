// Looks for what a call has left behind: in the vector registers, in the general registers that a function may change,
// and on all of the stack that it used.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "xts/xts.h"

namespace volseal::xts_test {

// What was left when a call had returned.
struct Remains {
  std::vector<uint8_t> stack;              // all of it, the lowest address first
  std::vector<uint8_t> vector_registers;   // all, in order
  std::vector<uint8_t> general_registers;  // those that a function may change
  size_t stack_used;                       // bytes, as far down as anything was changed
};

// Calls `transform` on a stack of its own, 256 KiB, and looks at once.
Remains RemainsOf(xts::Transform transform, const xts::KeySchedule& key, const uint8_t* source, uint8_t* target,
                  xts::SectorRun run);

// Secrets, and where they are found. Half a block is enough to be found, at any address: 8 bytes that are as good as
// random are no coincidence.
class Secrets {
 public:
  // `bytes` is a multiple of 8 long; `name` is a literal.
  void Add(const char* name, Bytes bytes);
  // Call it once, after the last Add.
  void Sort();
  // "half of a round key at byte 12", the first that lies in `remains`, or "".
  std::string FindIn(Bytes remains) const;

 private:
  std::vector<std::pair<uint64_t, const char*>> halves_;
};

}  // namespace volseal::xts_test
