// Tweaks made in general registers of x86, in place of a kernel's own arithmetic.
//
// For Zen 3. It has four ports for vectors. AES takes two of them, and what makes tweaks in vectors wants the same
// ones: shifts, shuffles, and the four operations of a carry-less product. The ports of general registers have nothing
// to do while vectors go through the rounds. On a quiet core VAES-256 reaches up to 0.88 of its limit by
// this, and 0.72 by shifts; AES-NI 0.89, and 0.81 by doubling in vectors. Beside busy neighbours VAES-256 loses a
// twentieth against shifts: these are more instructions.
//
// A vector is stored in halves and loaded whole, which has to wait until the stores are in the cache. They are: it is
// loaded one group later.
#pragma once

#include "xts/tweak.h"

namespace volseal::xts {
namespace {

template <typename Isa>
struct WithScalarTweaks : Isa {
  using Base = Tweak;
  VOLSEAL_INLINE static Base LoadBase(const Tweak& tweak) { return tweak; }
  VOLSEAL_INLINE static Base NextGranule(Base base) { return TimesXPower<Isa::kLanes * Isa::kVectorsPerGranule>(base); }

  class Tweaks {
   public:
    VOLSEAL_INLINE explicit Tweaks(Base base) : next_(base) {}
    VOLSEAL_INLINE void Store(typename Isa::Vector* to) {
      for (int lane = 0; lane < Isa::kLanes; ++lane) {
        reinterpret_cast<Tweak*>(to)[lane] = next_;
        Double();
      }
    }

   private:
    // In assembly, because compilers carry by shld, which is slow on AMD, or by setc: 0.60 and 0.78 of the limit.
    VOLSEAL_INLINE void Double() {
      const uint64_t back = static_cast<uint64_t>(static_cast<int64_t>(next_.high) >> 63) & 0x87;
      asm("add %0, %0\n\tadc %1, %1\n\txor %2, %0" : "+&r"(next_.low), "+&r"(next_.high) : "r"(back) : "cc");
    }

    Tweak next_;
  };
};

}  // namespace
}  // namespace volseal::xts
