// The anti-forensic splitter of LUKS (LUKS1 On-Disk Format Specification, section 2.4): a key becomes 4000 stripes, all
// of which are needed to get it back, so that a disk that remaps one sector does not keep the key.
//
// One stripe at a time: all of them together are the key, and locked memory has no room for 256,000 bytes.
#pragma once

#include "base/bytes.h"
#include "vault/hash.h"

namespace volseal::vault {

constexpr size_t kStripes = 4000;
constexpr size_t kStripeBytes = 64;  // of an AES-256-XTS key

// What passes from stripe to stripe. In locked memory, zeroed before the first.
struct Diffusion {
  uint8_t running[kStripeBytes];
  uint8_t mixed[kStripeBytes];
  union {
    SHA256_CTX sha256;
    SHA512_CTX sha512;
  } state;
};

// Takes in one of the stripes but the last.
void Diffuse(Diffusion& diffusion, Hash hash, const uint8_t stripe[kStripeBytes]);

// The last stripe from the key, and the key from the last stripe: the same step.
void FinishDiffusion(const Diffusion& diffusion, const uint8_t in[kStripeBytes], uint8_t out[kStripeBytes]);

}  // namespace volseal::vault
