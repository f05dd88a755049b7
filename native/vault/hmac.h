// HMAC (FIPS 198-1) and PBKDF2 (RFC 8018) over a vault key.
//
// The hash is OpenSSL's; the two constructions above it are here because OpenSSL's own copy the key into contexts on
// the heap. Hash states and key blocks stay in locked memory.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/status.h"
#include "vault/hash.h"

namespace volseal::vault {

constexpr size_t kMacBytes = 32;
constexpr size_t kHmacKeyBytesMax =
    64;  // one SHA-256 block: longer keys would have to be hashed first, and no MAC key here is longer

// Writes 32 bytes to `mac`. kArgument where the key is longer than kHmacKeyBytesMax.
Status HmacSha256(Bytes key, Bytes message, uint8_t* mac);

// Fills `derived` with the first bytes of PBKDF2(key, salt, iterations); iterations >= 1. kArgument as HmacSha256.
Status Pbkdf2OfKey(Hash hash, Bytes key, Bytes salt, uint32_t iterations, MutableBytes derived);

// Writes SHA-256 of `message`, which may hold a key, to `digest`: 32 bytes.
Status Sha256Of(Bytes message, uint8_t* digest);

// Fills `derived`, which lies in locked memory, from a passphrase of any length; iterations >= 1.
Status Pbkdf2(Hash hash, Bytes passphrase, Bytes salt, uint32_t iterations, MutableBytes derived);

// How many iterations of PBKDF2-HMAC-SHA-512 take this processor about `milliseconds`.
Result<uint64_t> Pbkdf2Sha512Iterations(uint64_t milliseconds);

}  // namespace volseal::vault
