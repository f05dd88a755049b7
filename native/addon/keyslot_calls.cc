// Keyslots and the texts that open them: this part of binding.d.ts.
#include "addon/args.h"
#include "addon/calls.h"
#include "addon/owners.h"
#include "base/base64.h"
#include "base/wipe.h"
#include "vault/hmac.h"
#include "vault/keyslot.h"
#include "vault/recovery_key.h"
#include "vault/vault.h"

namespace volseal::addon {
namespace {

using vault::PinnedKey;
using vault::Vault;

// About half a minute: a header may name any number.
constexpr uint64_t kPassphraseIterationsMax = 100'000'000;

// What PBKDF2 is given as password: never a volume key, which other calls have for that.
PinnedKey PinPassphrase(const Napi::Value& handle) {
  PinnedKey passphrase = Pin(handle, "passphrase");
  if (passphrase.is_volume_key()) ThrowArgument(handle.Env(), "a volume key is no passphrase");
  return passphrase;
}

size_t KeyBytesOf(const Napi::Value& value, const char* what) {
  const size_t bytes = WholeNumber(value, what, 32, 64);
  if (!xts::IsXtsKeyLength(bytes)) ThrowArgument(value.Env(), std::string(what) + " is neither 32 nor 64");
  return bytes;
}

// From the argument `first` on: hash of the key derivation, salt, iterations, hash of the splitter, bytes of the slot
// key.
vault::KeyslotParameters ParametersOf(const Arguments& info, size_t first) {
  return {HashOf(info[first], "kdfHash"), BytesOf(info[first + 1], "salt"),
          static_cast<uint32_t>(WholeNumber(info[first + 2], "iterations", 1, kPassphraseIterationsMax)),
          HashOf(info[first + 3], "afHash"), KeyBytesOf(info[first + 4], "slotKeyBytes")};
}

Napi::Value RecoveryKeyGenerate(const Arguments& info) {
  return OwnedHandle(info.Env(), ValueOrThrow(info.Env(), vault::GenerateRecoveryKey()));
}

Napi::Value RecoveryKeyRead(const Arguments& info) {
  return OwnedHandle(info.Env(), ValueOrThrow(info.Env(), vault::ReadRecoveryKey(FileDescriptor(info[0], "fd"))));
}

Napi::Value RecoveryKeyWrite(const Arguments& info) {
  const PinnedKey key = PinPassphrase(info[0]);
  ThrowUnlessOk(info.Env(), vault::WriteRecoveryKey(FileDescriptor(info[1], "fd"), key.bytes()));
  return info.Env().Undefined();
}

Napi::Value VolumeKeyHandOver(const Arguments& info) {
  const Napi::Env env = info.Env();
  const PinnedKey key = ValueOrThrow(env, Vault::OfProcess().PinVolumeKey(HandleOf(info[0], "key")));
  ThrowUnlessOk(env, vault::WriteVolumeKey(FileDescriptor(info[1], "fd"), key.bytes()));
  return env.Undefined();
}

Napi::Value KeyIntoRequest(const Arguments& info) {
  const Napi::Env env = info.Env();
  const PinnedKey key = Pin(info[0], "key");
  const MutableBytes body = BytesOf(info[1], "body");
  if (key.is_volume_key()) ThrowArgument(env, "a volume key is never revealed");
  if (body.size() <= 64) ThrowArgument(env, "a body has more than 64 bytes: shorter arrays lie on V8's heap");
  const size_t start = WholeNumber(info[2], "startByte", 0, body.size());
  if (Base64TextLength(key.bytes().size()) > body.size() - start)
    ThrowArgument(env, "the key's text does not fit into the body");
  Base64Encode(key.bytes(), body.data() + start);
  uint8_t digest[vault::kMacBytes];
  if (Status status = vault::Sha256Of(body, digest); !status.ok()) {
    Wipe(body.data(), body.size());
    ThrowUnlessOk(env, status);
  }
  return Napi::Buffer<uint8_t>::Copy(env, digest, sizeof digest);
}

Napi::Value PassphraseRead(const Arguments& info) {
  return OwnedHandle(info.Env(), ValueOrThrow(info.Env(), vault::ReadPassphrase(FileDescriptor(info[0], "fd"))));
}

Napi::Value PassphraseIterations(const Arguments& info) {
  const uint64_t milliseconds = WholeNumber(info[0], "milliseconds", 1, 60'000);
  return Napi::Number::New(info.Env(), double(ValueOrThrow(info.Env(), vault::Pbkdf2Sha512Iterations(milliseconds))));
}

Napi::Value KeyslotSeal(const Arguments& info) {
  const Napi::Env env = info.Env();
  const PinnedKey passphrase = PinPassphrase(info[0]);
  const PinnedKey volume_key = Pin(info[1], "volumeKey");
  const vault::KeyslotParameters parameters = ParametersOf(info, 2);
  auto area = Napi::Buffer<uint8_t>::New(env, vault::AreaBytes(volume_key.bytes().size()));
  ThrowUnlessOk(env,
                vault::SealKeyslot(passphrase.bytes(), volume_key.bytes(), parameters, {area.Data(), area.Length()}));
  return area;
}

Napi::Value KeyslotOpen(const Arguments& info) {
  const PinnedKey passphrase = PinPassphrase(info[0]);
  const Bytes area = BytesOf(info[1], "area");
  if (area.size() != vault::AreaBytes(64) && area.size() != vault::AreaBytes(32))
    ThrowArgument(info.Env(), "the area of a keyslot has 4000 times the bytes of its key: 64, or 32 for AES-128");
  return OwnedHandle(info.Env(),
                     ValueOrThrow(info.Env(), vault::OpenKeyslot(passphrase.bytes(), ParametersOf(info, 2), area)));
}

}  // namespace

void RegisterKeyslotCalls(Napi::Env env, Napi::Object exports) {
  Export<RecoveryKeyGenerate>(env, exports, "recoveryKeyGenerate");
  Export<RecoveryKeyRead>(env, exports, "recoveryKeyRead");
  Export<RecoveryKeyWrite>(env, exports, "recoveryKeyWrite");
  Export<VolumeKeyHandOver>(env, exports, "volumeKeyHandOver");
  Export<KeyIntoRequest>(env, exports, "keyIntoRequest");
  Export<PassphraseRead>(env, exports, "passphraseRead");
  Export<PassphraseIterations>(env, exports, "passphraseIterations");
  Export<KeyslotSeal>(env, exports, "keyslotSeal");
  Export<KeyslotOpen>(env, exports, "keyslotOpen");
}

}  // namespace volseal::addon
