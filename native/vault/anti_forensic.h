// The anti-forensic splitter of LUKS (LUKS1 On-Disk Format Specification, section 2.4): a key becomes 4000 stripes, all
// of which are needed to get it back, so that a disk that remaps one sector does not keep the key.
//
// One stripe at a time: all of them together are the key, and locked memory has no room for 256,000 bytes.
#pragma once

#include "base/bytes.h"
#include "vault/hash.h"

namespace volseal::vault {

constexpr size_t kStripes = 4000;
constexpr size_t kStripeBytesMax = 64;  // of an AES-256-XTS key; one of AES-128 has 32

// What passes from stripe to stripe. In locked memory, zeroed before the first.
struct Diffusion {
  uint8_t running[kStripeBytesMax];
  uint8_t mixed[kStripeBytesMax];
  union {
    SHA_CTX sha1;
    SHA256_CTX sha256;
    SHA512_CTX sha512;  // SHA-384's too
  } state;
  uint8_t digest[Sha512::kDigestBytes];
};

// Takes in one of the stripes but the last; all have one length, up to kStripeBytesMax.
void Diffuse(Diffusion& diffusion, Hash hash, Bytes stripe);

// The last stripe from the key, and the key from the last stripe: the same step. As many bytes to `out`.
void FinishDiffusion(const Diffusion& diffusion, Bytes in, uint8_t* out);

}  // namespace volseal::vault
