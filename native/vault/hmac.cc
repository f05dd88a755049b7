#include "vault/hmac.h"

// SHA256_CTX is a plain structure that can lie in locked memory; the EVP calls that OpenSSL 3 prefers allocate theirs
// on the heap.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "base/wipe.h"
#include "vault/vault.h"

namespace volseal::vault {
namespace {

// HMAC's two hash states after the key blocks: from here on the key itself is not needed.
struct KeyedStates {
  SHA256_CTX inner;
  SHA256_CTX outer;
  uint8_t block[64];
  SHA256_CTX running;
};

void StartWithKey(Bytes key, uint8_t pad, uint8_t block[64], SHA256_CTX& state) {
  for (size_t i = 0; i < 64; ++i) block[i] = (i < key.size() ? key[i] : 0) ^ pad;
  SHA256_Init(&state);
  SHA256_Update(&state, block, 64);
}

void Key(Bytes key, KeyedStates& states) {
  StartWithKey(key, 0x36, states.block, states.inner);
  StartWithKey(key, 0x5c, states.block, states.outer);
}

// mac = H(outer || H(inner || first || second)).
void Mac(KeyedStates& states, Bytes first, Bytes second, uint8_t mac[kMacBytes]) {
  states.running = states.inner;
  SHA256_Update(&states.running, first.data(), first.size());
  SHA256_Update(&states.running, second.data(), second.size());
  uint8_t* const digest = states.block;
  SHA256_Final(digest, &states.running);
  states.running = states.outer;
  SHA256_Update(&states.running, digest, kMacBytes);
  SHA256_Final(mac, &states.running);
}

Result<NewKey> KeyedScratch(Bytes key) {
  if (key.size() > kHmacKeyBytesMax) {
    return Failure(Code::kArgument, "HMAC takes keys of up to 64 bytes, this one has " + std::to_string(key.size()));
  }
  auto scratch = Vault::OfProcess().Reserve();
  if (scratch.ok()) Key(key, scratch.value().As<KeyedStates>());
  return scratch;
}

}  // namespace

Status HmacSha256(Bytes key, Bytes message, uint8_t* mac) {
  auto scratch = KeyedScratch(key);
  if (!scratch.ok()) return scratch.status();
  Mac(scratch.value().As<KeyedStates>(), message, {}, mac);
  WipeUsedStack();
  return Ok();
}

Status Pbkdf2Sha256(Bytes key, Bytes salt, uint32_t iterations, uint8_t* derived) {
  auto scratch = KeyedScratch(key);
  if (!scratch.ok()) return scratch.status();
  KeyedStates& states = scratch.value().As<KeyedStates>();
  // Block 1 of the output is U1 ^ U2 ^ ..., with U1 = MAC(salt || 00000001) and each next one the MAC of the last.
  uint8_t block_number[4];
  StoreBig32(block_number, 1);
  uint8_t link[kMacBytes];
  Mac(states, salt, block_number, link);
  std::memcpy(derived, link, kMacBytes);
  for (uint32_t i = 1; i < iterations; ++i) {
    Mac(states, link, {}, link);
    for (size_t j = 0; j < kMacBytes; ++j) derived[j] ^= link[j];
  }
  Wipe(link, sizeof link);
  WipeUsedStack();
  return Ok();
}

}  // namespace volseal::vault
