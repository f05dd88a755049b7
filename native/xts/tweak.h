// Tweaks in general registers.
#pragma once

#include <cstdint>

// Kernels are compiled with flags of their own: what they share must leave no copy of itself for the linker to choose
// from.
#define VOLSEAL_INLINE inline __attribute__((always_inline))

namespace volseal::xts {

// A tweak as two halves of a little-endian 128-bit number (IEEE 1619-2007, 5.2).
struct alignas(16) Tweak {
  uint64_t low;
  uint64_t high;
};

// Times x^n in GF(2^128), n <= 56: the n bits that leave the high half come back times x^7 + x^2 + x + 1.
template <int n>
VOLSEAL_INLINE Tweak TimesXPower(Tweak tweak) {
  const uint64_t carry = tweak.high >> (64 - n);
  return {tweak.low << n ^ carry ^ carry << 1 ^ carry << 2 ^ carry << 7, tweak.high << n | tweak.low >> (64 - n)};
}

}  // namespace volseal::xts
