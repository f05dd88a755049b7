// The vault's part of binding.d.ts.
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "addon/args.h"
#include "addon/calls.h"
#include "addon/owners.h"
#include "base/base64.h"
#include "base/wipe.h"
#include "engine/file.h"
#include "vault/hmac.h"
#include "vault/json_import.h"
#include "vault/seal.h"
#include "vault/vault.h"

namespace volseal::addon {
namespace {

using vault::PinnedKey;
using vault::Vault;

constexpr uint64_t kKeyIterationsMax = 10'000'000;

Napi::Value ToBuffer(Napi::Env env, Bytes bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value VaultInfo(const Arguments& info) {
  const vault::VaultInfo facts = ValueOrThrow(info.Env(), Vault::OfProcess().Info());
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("backend", facts.backend == vault::Backend::kMemfdSecret ? "memfd_secret" : "mlock");
  out.Set("liveKeys", static_cast<double>(facts.live_keys));
  out.Set("lockedBytes", static_cast<double>(facts.locked_bytes));
  return out;
}

Napi::Value ForbidDumps(const Arguments& info) {
  ThrowUnlessOk(info.Env(), vault::ForbidDumps());
  return info.Env().Undefined();
}

// exit(3) and process.exit end the other threads one by one: one of them that loads a native module then aborts the
// process.
Napi::Value ExitNow(const Arguments& info) { _exit(static_cast<int>(WholeNumber(info[0], "status", 0, 255))); }

Napi::Value WipeStack(const Arguments& info) {
  WipeUsedStack();
  return info.Env().Undefined();
}

Napi::Value KeyGenerate(const Arguments& info) {
  const size_t length = WholeNumber(info[0], "byteLength", 1, vault::kKeyBytesMax);
  vault::NewKey key = ValueOrThrow(info.Env(), Vault::OfProcess().Reserve());
  for (size_t done = 0; done < length;) {  // getrandom(2) gives at least 256 bytes a call once the pool is ready
    const ssize_t count = getrandom(key.data() + done, length - done, 0);
    if (count < 0 && errno != EINTR) ThrowUnlessOk(info.Env(), SystemFailure(errno, "getrandom"));
    if (count > 0) done += static_cast<size_t>(count);
  }
  return OwnedHandle(info.Env(), key.Commit(length));
}

// Zeroes a message's chunks whatever becomes of the call.
struct WipeChunks {
  const std::vector<MutableBytes>& chunks;
  ~WipeChunks() {
    for (const MutableBytes& chunk : chunks) Wipe(chunk.data(), chunk.size());
  }
};

// The chunks of a message. Getters of the array may run here, so no chunk's memory is looked at before all values are
// there.
std::vector<MutableBytes> ChunksOf(const Napi::Value& value) {
  if (!value.IsArray()) ThrowArgument(value.Env(), "chunks is not an array");
  const auto array = value.As<Napi::Array>();
  const uint32_t count = array.Length();
  if (count > vault::kJsonBytesMax) ThrowArgument(value.Env(), "there are more chunks than a message may have bytes");
  std::vector<Napi::Value> values;
  for (uint32_t i = 0; i < count; ++i) values.push_back(array.Get(i));
  std::vector<MutableBytes> chunks;
  for (const Napi::Value& chunk : values) {
    if (IsBytes(chunk)) chunks.push_back(BytesOf(chunk, "a chunk"));
  }
  if (chunks.size() == count) return chunks;
  const WipeChunks wipe{chunks};
  ThrowArgument(value.Env(), "a chunk is not a Uint8Array");
}

Napi::Value KeyImportJson(const Arguments& info) {
  const Napi::Env env = info.Env();
  const std::vector<MutableBytes> chunks = ChunksOf(info[0]);
  const WipeChunks wipe{chunks};
  const std::string member = TextOf(info[1], "member");
  const bool redacts = info.IsGiven(2) && BooleanOf(info[2], "redactInner");
  const vault::JsonImport imported =
      ValueOrThrow(env, vault::ImportFromJson(chunks, member, redacts ? vault::Inner::kRedact : vault::Inner::kKeep));
  try {
    Napi::Object out = Napi::Object::New(env);
    out.Set("key", imported.key ? OwnedHandle(env, *imported.key) : env.Undefined());
    out.Set("body", ToBuffer(env, imported.body));
    return out;
  } catch (const Napi::Error&) {  // a thread that is being ended: nobody else knows the handle
    if (imported.key) {
      ForgetHandle(*imported.key);
      Vault::OfProcess().WipeKey(*imported.key);
    }
    throw;
  }
}

Napi::Value KeyImportBase64(const Arguments& info) {
  return OwnedHandle(info.Env(), ValueOrThrow(info.Env(), vault::ImportBase64(BytesOf(info[0], "text"))));
}

Napi::Value KeyReadFile(const Arguments& info) {
  const Napi::Env env = info.Env();
  const int fd = FileDescriptor(info[0], "fd");
  const size_t length = WholeNumber(info[1], "byteLength", 1, vault::kKeyBytesMax);
  const uint64_t size = ValueOrThrow(env, engine::CheckFile(fd, engine::Access::kRead));
  if (size != length) {
    ThrowArgument(env, "the key file has " + std::to_string(size) + " bytes instead of " + std::to_string(length));
  }
  vault::NewKey key = ValueOrThrow(env, Vault::OfProcess().Reserve());
  ThrowUnlessOk(env, engine::ReadAt(fd, 0, {key.data(), length}));
  return OwnedHandle(env, key.Commit(length));
}

Napi::Value KeyWriteFile(const Arguments& info) {
  const Napi::Env env = info.Env();
  const int fd = FileDescriptor(info[0], "fd");
  const PinnedKey key = Pin(info[1], "key");
  if (key.is_volume_key()) ThrowArgument(env, "a volume key is never written to a file");
  ValueOrThrow(env, engine::CheckFile(fd, engine::Access::kWrite));
  ThrowUnlessOk(env, engine::WriteAt(fd, 0, key.bytes()));
  if (fsync(fd) != 0) ThrowUnlessOk(env, SystemFailure(errno, "fsync"));
  return env.Undefined();
}

Napi::Value KeyByteLength(const Arguments& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Pin(info[0], "key").bytes().size()));
}

Napi::Value KeyRevealBase64(const Arguments& info) {
  const Napi::Env env = info.Env();
  const PinnedKey key = Pin(info[0], "key");
  const MutableBytes target = BytesOf(info[1], "target");
  if (key.is_volume_key()) ThrowArgument(env, "a volume key is never revealed");
  if (target.size() <= 64)
    ThrowArgument(env, "the target of a revealed key has more than 64 bytes: shorter arrays lie on V8's heap");
  const size_t start = WholeNumber(info[2], "startByte", 0, target.size());
  if (Base64TextLength(key.bytes().size()) > target.size() - start)
    ThrowArgument(env, "the key's text does not fit into the target");
  Base64Encode(key.bytes(), target.data() + start);
  return env.Undefined();
}

Napi::Value KeyHmac(const Arguments& info) {
  uint8_t mac[vault::kMacBytes];
  ThrowUnlessOk(info.Env(), vault::HmacSha256(Pin(info[0], "key").bytes(), BytesOf(info[1], "message"), mac));
  return ToBuffer(info.Env(), mac);
}

template <typename H>
Napi::Value DigestOf(Napi::Env env, Bytes bytes) {
  typename H::State state;
  uint8_t digest[H::kDigestBytes];
  H::Init(state);
  H::Update(state, bytes);
  H::Final(state, digest);
  return ToBuffer(env, digest);
}

Napi::Value PublicDigest(const Arguments& info) {
  const Bytes bytes = BytesOf(info[1], "bytes");
  switch (HashOf(info[0], "hash")) {
    case vault::Hash::kSha1:
      return DigestOf<vault::Sha1>(info.Env(), bytes);
    case vault::Hash::kSha256:
      return DigestOf<vault::Sha256>(info.Env(), bytes);
    case vault::Hash::kSha384:
      return DigestOf<vault::Sha384>(info.Env(), bytes);
    case vault::Hash::kSha512:
      return DigestOf<vault::Sha512>(info.Env(), bytes);
  }
  return info.Env().Undefined();
}

Napi::Value KeyDerive(const Arguments& info) {
  const PinnedKey key = Pin(info[0], "key");
  vault::NewKey derived = ValueOrThrow(info.Env(), Vault::OfProcess().Reserve());
  ThrowUnlessOk(info.Env(), vault::HmacSha256(key.bytes(), BytesOf(info[1], "label"), derived.data()));
  return OwnedHandle(info.Env(), derived.Commit(vault::kMacBytes));
}

Napi::Value KeyPbkdf2(const Arguments& info) {
  const PinnedKey key = Pin(info[0], "key");
  const Bytes salt = BytesOf(info[1], "salt");
  const auto iterations = static_cast<uint32_t>(WholeNumber(info[2], "iterations", 1, kKeyIterationsMax));
  const vault::Hash hash = HashOf(info[3], "hash");
  uint8_t derived[64];
  const MutableBytes wanted = MutableBytes(derived).first(WholeNumber(info[4], "byteCount", 1, sizeof derived));
  ThrowUnlessOk(info.Env(), vault::Pbkdf2OfKey(hash, key.bytes(), salt, iterations, wanted));
  return ToBuffer(info.Env(), wanted);
}

Napi::Value KeySeal(const Arguments& info) {
  const PinnedKey master = Pin(info[0], "master");
  const PinnedKey payload = Pin(info[1], "payload");
  if (payload.is_volume_key()) ThrowArgument(info.Env(), "a volume key is never sealed: KMS wraps it");
  return ToBuffer(info.Env(),
                  ValueOrThrow(info.Env(), vault::Seal(master.bytes(), payload.bytes(), BytesOf(info[2], "aad"))));
}

Napi::Value KeyOpen(const Arguments& info) {
  const PinnedKey master = Pin(info[0], "master");
  const auto opened =
      ValueOrThrow(info.Env(), vault::Open(master.bytes(), BytesOf(info[1], "sealed"), BytesOf(info[2], "aad")));
  return opened ? OwnedHandle(info.Env(), *opened) : info.Env().Undefined();
}

Napi::Value KeyWipe(const Arguments& info) {
  const uint64_t key = HandleOf(info[0], "key");
  ForgetHandle(key);
  return Napi::Boolean::New(info.Env(), Vault::OfProcess().WipeKey(key));
}

}  // namespace

vault::Hash HashOf(const Napi::Value& value, const char* what) {
  const std::string name = TextOf(value, what);
  if (name == "sha1") return vault::Hash::kSha1;
  if (name == "sha256") return vault::Hash::kSha256;
  if (name == "sha384") return vault::Hash::kSha384;
  if (name == "sha512") return vault::Hash::kSha512;
  ThrowArgument(value.Env(), std::string(what) + " is none of sha1, sha256, sha384 and sha512");
}

PinnedKey Pin(const Napi::Value& handle, const char* what) {
  return ValueOrThrow(handle.Env(), Vault::OfProcess().Pin(HandleOf(handle, what)));
}

void RegisterVaultCalls(Napi::Env env, Napi::Object exports) {
  Export<VaultInfo>(env, exports, "vaultInfo");
  Export<ForbidDumps>(env, exports, "forbidDumps");
  Export<ExitNow>(env, exports, "exitNow");
  Export<WipeStack>(env, exports, "wipeStack");
  Export<KeyGenerate>(env, exports, "keyGenerate");
  Export<KeyImportJson>(env, exports, "keyImportJson");
  Export<KeyImportBase64>(env, exports, "keyImportBase64");
  Export<KeyReadFile>(env, exports, "keyReadFile");
  Export<KeyWriteFile>(env, exports, "keyWriteFile");
  Export<KeyByteLength>(env, exports, "keyByteLength");
  Export<KeyRevealBase64>(env, exports, "keyRevealBase64");
  Export<KeyHmac>(env, exports, "keyHmac");
  Export<KeyDerive>(env, exports, "keyDerive");
  Export<PublicDigest>(env, exports, "publicDigest");
  Export<KeyPbkdf2>(env, exports, "keyPbkdf2");
  Export<KeySeal>(env, exports, "keySeal");
  Export<KeyOpen>(env, exports, "keyOpen");
  Export<KeyWipe>(env, exports, "keyWipe");
}

}  // namespace volseal::addon
