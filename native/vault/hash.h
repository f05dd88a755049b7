// The SHA family (FIPS 180-4) with states that may hold keys.
//
// OpenSSL's older calls: their states are plain structures that can lie in locked memory. The EVP calls that OpenSSL 3
// prefers allocate theirs on the heap.
#pragma once

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "base/bytes.h"

namespace volseal::vault {

// What a LUKS header may name for the digest of its key and for its keyslots; cryptsetup makes any of them.
enum class Hash { kSha1, kSha256, kSha384, kSha512 };

struct Sha1 {
  using State = SHA_CTX;
  static constexpr size_t kDigestBytes = 20;
  static constexpr size_t kBlockBytes = 64;
  static void Init(State& state) { SHA1_Init(&state); }
  static void Update(State& state, Bytes bytes) { SHA1_Update(&state, bytes.data(), bytes.size()); }
  static void Final(State& state, uint8_t* digest) { SHA1_Final(digest, &state); }
};

struct Sha256 {
  using State = SHA256_CTX;
  static constexpr size_t kDigestBytes = 32;
  static constexpr size_t kBlockBytes = 64;
  static void Init(State& state) { SHA256_Init(&state); }
  static void Update(State& state, Bytes bytes) { SHA256_Update(&state, bytes.data(), bytes.size()); }
  static void Final(State& state, uint8_t* digest) { SHA256_Final(digest, &state); }
};

struct Sha512 {
  using State = SHA512_CTX;
  static constexpr size_t kDigestBytes = 64;
  static constexpr size_t kBlockBytes = 128;
  static void Init(State& state) { SHA512_Init(&state); }
  static void Update(State& state, Bytes bytes) { SHA512_Update(&state, bytes.data(), bytes.size()); }
  static void Final(State& state, uint8_t* digest) { SHA512_Final(digest, &state); }
};

struct Sha384 {
  using State = SHA512_CTX;
  static constexpr size_t kDigestBytes = 48;
  static constexpr size_t kBlockBytes = 128;
  static void Init(State& state) { SHA384_Init(&state); }
  static void Update(State& state, Bytes bytes) { SHA384_Update(&state, bytes.data(), bytes.size()); }
  static void Final(State& state, uint8_t* digest) { SHA384_Final(digest, &state); }
};

}  // namespace volseal::vault
