// A peer of volseal's kernels: AES-256-XTS through EVP of the OpenSSL inside Node, as fast as its interface allows. The
// key is expanded once, each sector sets its IV alone. The key is the benchmarks' public one and protects nothing.
#include <napi.h>
#include <openssl/evp.h>

#include <cstdint>
#include <cstring>
#include <memory>

namespace {

constexpr size_t kTweakUnitBytes = 512;

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

Context MakeContext(bool encrypt) {
  uint8_t public_key[64];
  for (size_t i = 0; i < sizeof public_key; i++) public_key[i] = static_cast<uint8_t>(i * 37 + 11);
  const uint8_t iv[16] = {};
  Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  if (!context || EVP_CipherInit_ex(context.get(), EVP_aes_256_xts(), nullptr, public_key, iv, encrypt) != 1) {
    context.reset();
  }
  return context;
}

bool TransformSectors(EVP_CIPHER_CTX* context, const uint8_t* source, uint8_t* target, size_t bytes,
                      size_t sector_bytes) {
  for (size_t offset = 0; offset < bytes; offset += sector_bytes) {
    uint8_t iv[16] = {};
    const uint64_t unit = offset / kTweakUnitBytes;
    std::memcpy(iv, &unit, sizeof unit);  // little-endian, as the machines this is built for
    int written = 0;
    if (EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, iv, -1) != 1 ||
        EVP_CipherUpdate(context, target + offset, &written, source + offset, static_cast<int>(sector_bytes)) != 1) {
      return false;
    }
  }
  return true;
}

// evpXts(encrypt, source, target, sectorBytes): whole sectors, the first one has number 0.
Napi::Value EvpXts(const Napi::CallbackInfo& info) {
  static thread_local const Context contexts[2] = {MakeContext(false), MakeContext(true)};
  const bool encrypt = info[0].As<Napi::Boolean>();
  auto source = info[1].As<Napi::Uint8Array>();
  auto target = info[2].As<Napi::Uint8Array>();
  const size_t sector_bytes = info[3].As<Napi::Number>().Uint32Value();
  EVP_CIPHER_CTX* context = contexts[encrypt].get();
  if (sector_bytes == 0 || source.ByteLength() % sector_bytes != 0 || source.ByteLength() != target.ByteLength()) {
    throw Napi::Error::New(info.Env(), "source and target are not the same whole number of sectors");
  }
  if (!context || !TransformSectors(context, source.Data(), target.Data(), source.ByteLength(), sector_bytes)) {
    throw Napi::Error::New(info.Env(), "OpenSSL refuses AES-256-XTS");
  }
  return info.Env().Undefined();
}

Napi::Object Register(Napi::Env env, Napi::Object exports) {
  exports.Set("evpXts", Napi::Function::New(env, EvpXts, "evpXts"));
  return exports;
}

}  // namespace

NODE_API_MODULE(volseal_bench, Register)
