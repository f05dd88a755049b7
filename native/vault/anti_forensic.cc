#include "vault/anti_forensic.h"

#include <algorithm>

namespace volseal::vault {
namespace {

// Each piece of a digest's length becomes H(number of the piece || piece); the last one may be shorter, and takes the
// first bytes of its digest.
template <typename H>
void HashPieces(Diffusion& diffusion, typename H::State& state, size_t stripe_bytes) {
  uint32_t piece = 0;
  for (size_t at = 0; at < stripe_bytes; at += H::kDigestBytes) {
    const size_t length = std::min(H::kDigestBytes, stripe_bytes - at);
    uint8_t number[4];
    StoreBig32(number, piece++);
    H::Init(state);
    H::Update(state, number);
    H::Update(state, {diffusion.mixed + at, length});
    H::Final(state, diffusion.digest);
    std::memcpy(diffusion.running + at, diffusion.digest, length);
  }
}

}  // namespace

void Diffuse(Diffusion& diffusion, Hash hash, Bytes stripe) {
  const size_t length = stripe.size();
  for (size_t i = 0; i < length; ++i) diffusion.mixed[i] = diffusion.running[i] ^ stripe[i];
  switch (hash) {
    case Hash::kSha1:
      return HashPieces<Sha1>(diffusion, diffusion.state.sha1, length);
    case Hash::kSha256:
      return HashPieces<Sha256>(diffusion, diffusion.state.sha256, length);
    case Hash::kSha384:
      return HashPieces<Sha384>(diffusion, diffusion.state.sha512, length);
    case Hash::kSha512:
      return HashPieces<Sha512>(diffusion, diffusion.state.sha512, length);
  }
}

void FinishDiffusion(const Diffusion& diffusion, Bytes in, uint8_t* out) {
  for (size_t i = 0; i < in.size(); ++i) out[i] = diffusion.running[i] ^ in[i];
}

}  // namespace volseal::vault
