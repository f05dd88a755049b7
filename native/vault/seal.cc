#include "vault/seal.h"

#include <openssl/modes.h>
#include <sys/random.h>

#include <cerrno>
#include <memory>

#include "base/wipe.h"
#include "xts/self_test.h"

namespace volseal::vault {
namespace {

struct BlockKey {
  int rounds;
  xts::RoundKeys round_keys;
  xts::SlicedRoundKey sliced[xts::kRoundKeysMax];
  uint8_t blocks[xts::kPortableBytes];  // the portable cipher does eight blocks; the first one counts
};

void EncryptOneBlock(const unsigned char in[16], unsigned char out[16], const void* key_pointer) {
  // The key is this call's own scratch slot, so writing to it races with nobody.
  BlockKey& key = *const_cast<BlockKey*>(static_cast<const BlockKey*>(key_pointer));
  std::memcpy(key.blocks, in, 16);
  xts::EncryptBlocks(key.sliced, key.rounds, key.blocks);
  std::memcpy(out, key.blocks, 16);
}

struct ReleaseGcm {
  void operator()(GCM128_CONTEXT* context) const { CRYPTO_gcm128_release(context); }
};

// One use of GCM: the scratch slot with the expanded master key, and OpenSSL's state (hash key, counter, one block of
// key stream).
class Gcm {
 public:
  static Result<Gcm> Start(Bytes master, Bytes iv, Bytes aad) {
    if (master.size() != kMasterKeyBytes) {
      return Failure(Code::kArgument, "a sealing key has 32 bytes, this one has " + std::to_string(master.size()));
    }
    if (Status status = xts::SelfTest(); !status.ok()) return status;
    auto scratch = Vault::OfProcess().Reserve();
    if (!scratch.ok()) return scratch.status();
    BlockKey& key = scratch.value().As<BlockKey>();
    key.rounds = xts::ExpandSlicedKey(master, key.round_keys, key.sliced);
    Gcm gcm(std::move(scratch.value()), CRYPTO_gcm128_new(&key, EncryptOneBlock));
    if (!gcm.context_) return Failure(Code::kMemoryLock, "no memory for a GCM context");
    CRYPTO_gcm128_setiv(gcm.context_.get(), iv.data(), iv.size());
    if (CRYPTO_gcm128_aad(gcm.context_.get(), aad.data(), aad.size()) != 0) {
      return Failure(Code::kArgument, "GCM refused the additional data");
    }
    return gcm;
  }
  GCM128_CONTEXT* context() const { return context_.get(); }

 private:
  Gcm(NewKey scratch, GCM128_CONTEXT* context) : scratch_(std::move(scratch)), context_(context) {}
  NewKey scratch_;
  std::unique_ptr<GCM128_CONTEXT, ReleaseGcm> context_;
};

}  // namespace

Result<std::vector<uint8_t>> Seal(Bytes master, Bytes payload, Bytes aad) {
  uint8_t iv[kGcmIvBytes];
  if (getrandom(iv, sizeof iv, 0) != static_cast<ssize_t>(sizeof iv)) return SystemFailure(errno, "getrandom");
  std::vector<uint8_t> sealed(iv, iv + sizeof iv);
  sealed.resize(kGcmIvBytes + payload.size() + kGcmTagBytes);
  auto gcm = Gcm::Start(master, iv, aad);
  if (!gcm.ok()) return gcm.status();
  if (CRYPTO_gcm128_encrypt(gcm.value().context(), payload.data(), sealed.data() + kGcmIvBytes, payload.size()) != 0) {
    return Failure(Code::kArgument, "GCM refused the payload");
  }
  CRYPTO_gcm128_tag(gcm.value().context(), sealed.data() + kGcmIvBytes + payload.size(), kGcmTagBytes);
  WipeUsedStack();
  return sealed;
}

Result<std::optional<KeyHandle>> Open(Bytes master, Bytes sealed, Bytes aad) {
  if (sealed.size() <= kGcmIvBytes + kGcmTagBytes) return std::optional<KeyHandle>();
  const Bytes ciphertext = sealed.subspan(kGcmIvBytes, sealed.size() - kGcmIvBytes - kGcmTagBytes);
  if (ciphertext.size() > kKeyBytesMax)
    return Failure(Code::kArgument, "the sealed bytes are longer than a vault slot");
  auto gcm = Gcm::Start(master, sealed.first(kGcmIvBytes), aad);
  if (!gcm.ok()) return gcm.status();
  auto opened = Vault::OfProcess().Reserve();
  if (!opened.ok()) return opened.status();
  if (CRYPTO_gcm128_decrypt(gcm.value().context(), ciphertext.data(), opened.value().data(), ciphertext.size()) != 0) {
    return Failure(Code::kArgument, "GCM refused the sealed bytes");
  }
  const bool holds =
      CRYPTO_gcm128_finish(gcm.value().context(), sealed.data() + sealed.size() - kGcmTagBytes, kGcmTagBytes) == 0;
  WipeUsedStack();
  if (!holds) return std::optional<KeyHandle>();
  return std::optional<KeyHandle>(opened.value().Commit(ciphertext.size()));
}

}  // namespace volseal::vault
