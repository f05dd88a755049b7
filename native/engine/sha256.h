// SHA-256 of plaintext that passes by. Not for keys: OpenSSL's context lies on the heap.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>

#include "base/bytes.h"

namespace volseal::engine {

class Sha256 {
 public:
  static constexpr size_t kBytes = 32;

  Sha256() : context_(EVP_MD_CTX_new()) {
    ok_ = context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  }
  void Update(Bytes bytes) { ok_ = ok_ && EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1; }
  // Once. False where OpenSSL failed at any step.
  bool Finish(std::array<uint8_t, kBytes>& digest) {
    ok_ = ok_ && EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1;
    return ok_;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
  bool ok_;
};

}  // namespace volseal::engine
