#include "vault/hmac.h"

#include <algorithm>
#include <ctime>

#include "base/wipe.h"
#include "vault/vault.h"

namespace volseal::vault {
namespace {

// HMAC's two hash states after the key blocks: from here on the key itself is not needed. In a slot of its own.
template <typename H>
struct KeyedStates {
  typename H::State inner;
  typename H::State outer;
  uint8_t block[H::kBlockBytes];
  typename H::State running;
  uint8_t hashed_key[H::kDigestBytes];
  uint8_t link[H::kDigestBytes];   // PBKDF2's last MAC
  uint8_t total[H::kDigestBytes];  // PBKDF2's block of output
};

template <typename H>
void StartWithKey(Bytes key, uint8_t pad, uint8_t* block, typename H::State& state) {
  for (size_t i = 0; i < H::kBlockBytes; ++i) block[i] = (i < key.size() ? key[i] : 0) ^ pad;
  H::Init(state);
  H::Update(state, {block, H::kBlockBytes});
}

template <typename H>
void Key(Bytes key, KeyedStates<H>& states) {
  if (key.size() > H::kBlockBytes) {
    H::Init(states.running);
    H::Update(states.running, key);
    H::Final(states.running, states.hashed_key);
    key = states.hashed_key;
  }
  StartWithKey<H>(key, 0x36, states.block, states.inner);
  StartWithKey<H>(key, 0x5c, states.block, states.outer);
}

// mac = H(outer || H(inner || first || second)), H::kDigestBytes of it.
template <typename H>
void Mac(KeyedStates<H>& states, Bytes first, Bytes second, uint8_t* mac) {
  states.running = states.inner;
  H::Update(states.running, first);
  H::Update(states.running, second);
  uint8_t* const digest = states.block;
  H::Final(states.running, digest);
  states.running = states.outer;
  H::Update(states.running, {digest, H::kDigestBytes});
  H::Final(states.running, mac);
}

// Block `number` of PBKDF2's output: U1 ^ U2 ^ ..., with U1 = MAC(salt || number) and each next one the MAC of the
// last.
template <typename H>
void DeriveBlock(KeyedStates<H>& states, Bytes salt, uint32_t number, uint32_t iterations) {
  uint8_t block_number[4];
  StoreBig32(block_number, number);
  Mac(states, salt, block_number, states.link);
  std::memcpy(states.total, states.link, sizeof states.total);
  for (uint32_t i = 1; i < iterations; ++i) {
    Mac(states, states.link, {}, states.link);
    for (size_t j = 0; j < H::kDigestBytes; ++j) states.total[j] ^= states.link[j];
  }
}

template <typename H>
Status Pbkdf2With(Bytes key, Bytes salt, uint32_t iterations, MutableBytes derived) {
  auto scratch = Vault::OfProcess().Reserve();
  if (!scratch.ok()) return scratch.status();
  auto& states = scratch.value().template As<KeyedStates<H>>();
  Key(key, states);
  uint32_t number = 0;
  for (size_t done = 0; done < derived.size(); done += H::kDigestBytes) {
    DeriveBlock(states, salt, ++number, iterations);
    std::memcpy(derived.data() + done, states.total, std::min(H::kDigestBytes, derived.size() - done));
  }
  WipeUsedStack();
  return Ok();
}

Status CheckMacKey(Bytes key) {
  if (key.size() <= kHmacKeyBytesMax) return Ok();
  return Failure(Code::kArgument, "HMAC takes keys of up to 64 bytes, this one has " + std::to_string(key.size()));
}

uint64_t ThreadCpuNs() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Status HmacSha256(Bytes key, Bytes message, uint8_t* mac) {
  if (Status status = CheckMacKey(key); !status.ok()) return status;
  auto scratch = Vault::OfProcess().Reserve();
  if (!scratch.ok()) return scratch.status();
  auto& states = scratch.value().As<KeyedStates<Sha256>>();
  Key(key, states);
  Mac(states, message, {}, mac);
  WipeUsedStack();
  return Ok();
}

Status Sha256Of(Bytes message, uint8_t* digest) {
  auto scratch = Vault::OfProcess().Reserve();
  if (!scratch.ok()) return scratch.status();
  auto& state = scratch.value().As<Sha256::State>();
  Sha256::Init(state);
  Sha256::Update(state, message);
  Sha256::Final(state, digest);
  WipeUsedStack();
  return Ok();
}

Status Pbkdf2OfKey(Hash hash, Bytes key, Bytes salt, uint32_t iterations, MutableBytes derived) {
  if (Status status = CheckMacKey(key); !status.ok()) return status;
  return Pbkdf2(hash, key, salt, iterations, derived);
}

Status Pbkdf2(Hash hash, Bytes passphrase, Bytes salt, uint32_t iterations, MutableBytes derived) {
  switch (hash) {
    case Hash::kSha1:
      return Pbkdf2With<Sha1>(passphrase, salt, iterations, derived);
    case Hash::kSha256:
      return Pbkdf2With<Sha256>(passphrase, salt, iterations, derived);
    case Hash::kSha384:
      return Pbkdf2With<Sha384>(passphrase, salt, iterations, derived);
    case Hash::kSha512:
      return Pbkdf2With<Sha512>(passphrase, salt, iterations, derived);
  }
  return Failure(Code::kArgument, "no such hash");
}

Result<uint64_t> Pbkdf2Sha512Iterations(uint64_t milliseconds) {
  constexpr uint64_t kEnoughNs = 100'000'000;
  const uint8_t passphrase[16] = {};
  for (uint32_t iterations = 4096;; iterations *= 2) {
    uint8_t derived[Sha512::kDigestBytes];
    const uint64_t start = ThreadCpuNs();
    if (Status status = Pbkdf2With<Sha512>(passphrase, passphrase, iterations, derived); !status.ok()) return status;
    const uint64_t took = std::max<uint64_t>(ThreadCpuNs() - start, 1);
    if (took >= kEnoughNs) return static_cast<uint64_t>(double(iterations) * double(milliseconds) * 1e6 / double(took));
  }
}

}  // namespace volseal::vault
