#include "vault/anti_forensic.h"

namespace volseal::vault {
namespace {

// Each piece of a digest's length becomes H(number of the piece || piece).
template <typename H>
void HashPieces(Diffusion& diffusion, typename H::State& state) {
  static_assert(kStripeBytes % H::kDigestBytes == 0);
  for (uint32_t piece = 0; piece < kStripeBytes / H::kDigestBytes; ++piece) {
    uint8_t number[4];
    StoreBig32(number, piece);
    H::Init(state);
    H::Update(state, number);
    H::Update(state, {diffusion.mixed + piece * H::kDigestBytes, H::kDigestBytes});
    H::Final(state, diffusion.running + piece * H::kDigestBytes);
  }
}

}  // namespace

void Diffuse(Diffusion& diffusion, Hash hash, const uint8_t stripe[kStripeBytes]) {
  for (size_t i = 0; i < kStripeBytes; ++i) diffusion.mixed[i] = diffusion.running[i] ^ stripe[i];
  if (hash == Hash::kSha256)
    HashPieces<Sha256>(diffusion, diffusion.state.sha256);
  else
    HashPieces<Sha512>(diffusion, diffusion.state.sha512);
}

void FinishDiffusion(const Diffusion& diffusion, const uint8_t in[kStripeBytes], uint8_t out[kStripeBytes]) {
  for (size_t i = 0; i < kStripeBytes; ++i) out[i] = diffusion.running[i] ^ in[i];
}

}  // namespace volseal::vault
