// The AES-NI kernel: one block a vector, SSE registers.
//
// For: every x86-64 processor since 2010 that has no VAES (Intel before Ice Lake, AMD before Zen 3).
// Width: 128 bits. In flight: 12 vectors, 12 blocks, 192 bytes, in three granules of four.
// Registers: of 16, 12 hold data, 1 the round key, 3 are for the tweaks, whose doubling takes one granule at a time.
// Why 12: 8 cover the latency of aesenc (4 cycles, two a cycle, on the fastest; 7 and one a cycle on Haswell) and no
// more: whatever comes late holds up a chain. On Zen 5 8 reach 91 % of the register-only limit, 12 reach 95 %.
// Doubling needs plain SSE2; no carry-less multiplication is asked for.
//
// Two forms: Zen 3's makes the tweaks in general registers (scalar_tweaks.h). Vectors for them are not needed there,
// and 8 in flight give 2 % more than 12.
#include <immintrin.h>

#include "xts/kernels.h"
#include "xts/pipeline.h"
#include "xts/scalar_tweaks.h"

namespace volseal::xts {
namespace {

struct Aesni {
  using Vector = __m128i;
  static constexpr int kLanes = 1;
  static constexpr int kVectorsPerGranule = 4;
  static constexpr int kGranulesInFlight = 3;
  static constexpr int kKeyLag = 0;
  static constexpr int kPrefetchBytes = 2048;
  static constexpr bool kCanStream = true;

  VOLSEAL_INLINE static Vector Load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
  VOLSEAL_INLINE static void Store(uint8_t* to, Vector vector) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), vector);
  }
  VOLSEAL_INLINE static void Stream(uint8_t* to, Vector vector) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), vector);
  }
  VOLSEAL_INLINE static void Fence() { _mm_sfence(); }
  VOLSEAL_INLINE static void Keep(Vector& vector) { asm volatile("" : "+x"(vector)); }

  // The barrier keeps the key in its register for all vectors of the round.
  VOLSEAL_INLINE static Vector LoadKey(const uint8_t* key) {
    Vector value = _mm_load_si128(reinterpret_cast<const __m128i*>(key));
    asm volatile("" : "+x"(value));
    return value;
  }

  VOLSEAL_INLINE static Vector Units(uint64_t first, uint64_t) {
    return _mm_set_epi64x(0, static_cast<long long>(first));
  }

  VOLSEAL_INLINE static Vector Open(Vector data, Vector key) { return _mm_xor_si128(data, key); }
  VOLSEAL_INLINE static Vector Open(Vector data, Vector tweak, Vector key) {
    return _mm_xor_si128(_mm_xor_si128(data, tweak), key);
  }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Round(Vector block, Vector key) {
    return kDirection == Direction::kEncrypt ? _mm_aesenc_si128(block, key) : _mm_aesdec_si128(block, key);
  }

  using Closing = Vector;
  VOLSEAL_INLINE static Closing LoadClosing(const RoundKeys& keys, int rounds) { return LoadKey(keys[rounds]); }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, Closing key) {
    return kDirection == Direction::kEncrypt ? _mm_aesenclast_si128(block, key) : _mm_aesdeclast_si128(block, key);
  }
  // The last round adds its key after everything else, so the tweak can ride on it.
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, Vector tweak, Closing key) {
    return Close<kDirection>(block, _mm_xor_si128(key, tweak));
  }

  // Bases are made in general registers, which the AES units do not need.
  using Base = Tweak;
  VOLSEAL_INLINE static Base LoadBase(const Tweak& tweak) { return tweak; }
  VOLSEAL_INLINE static Base NextGranule(Base base) { return TimesXPower<kVectorsPerGranule>(base); }

  // Doublings (IEEE 1619, 5.2): both halves doubled, then 0x87 added for the bit that left the high half and 1 to the
  // high half for the bit that left the low one.
  class Tweaks {
   public:
    VOLSEAL_INLINE explicit Tweaks(Base base)
        : next_(_mm_set_epi64x(static_cast<long long>(base.high), static_cast<long long>(base.low))) {}
    VOLSEAL_INLINE Vector Next() {
      const Vector tweak = next_;
      const Vector signs = _mm_srai_epi32(_mm_shuffle_epi32(tweak, 0x13), 31);
      next_ = _mm_xor_si128(_mm_add_epi64(tweak, tweak), _mm_and_si128(signs, _mm_set_epi64x(1, 0x87)));
      return tweak;
    }

   private:
    Vector next_;
  };

  VOLSEAL_INLINE static void ClearRegisters() {
    asm volatile(
        "pxor %%xmm0,%%xmm0\npxor %%xmm1,%%xmm1\npxor %%xmm2,%%xmm2\npxor %%xmm3,%%xmm3\n"
        "pxor %%xmm4,%%xmm4\npxor %%xmm5,%%xmm5\npxor %%xmm6,%%xmm6\npxor %%xmm7,%%xmm7\n"
        "pxor %%xmm8,%%xmm8\npxor %%xmm9,%%xmm9\npxor %%xmm10,%%xmm10\npxor %%xmm11,%%xmm11\n"
        "pxor %%xmm12,%%xmm12\npxor %%xmm13,%%xmm13\npxor %%xmm14,%%xmm14\npxor %%xmm15,%%xmm15\n" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
              "xmm13", "xmm14", "xmm15");
  }
};

struct AesniOfEight : Aesni {
  static constexpr int kVectorsPerGranule = 8;
  static constexpr int kGranulesInFlight = 1;
};

}  // namespace

const Kernel kAesniKernel = MakeKernel<Aesni>("aesni", "tweaks in vector registers");
const Kernel kAesniZen3Kernel = MakeKernel<WithScalarTweaks<AesniOfEight>>("aesni", "tweaks in general registers");

}  // namespace volseal::xts
