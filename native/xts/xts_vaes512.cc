// The VAES-512 kernel: four blocks a vector.
//
// For: AMD from Zen 4 on, Intel from Sapphire Rapids and Rocket Lake on. Intel's earlier parts (Ice Lake, Tiger Lake)
// run it too, but lower their clock for 512-bit vectors: there the VAES-256 kernel comes first. Width: 512 bits. In
// flight: 16 vectors, 64 blocks, 1 KiB. Registers: of 32, 16 hold data, 1 the round key, 2 the bases, 1 the polynomial;
// the rest is for the tweak arithmetic. Why 16: two AES units times four cycles of latency would be covered by 8; the
// other 8 keep the units busy while loads, stores and the turn from one group to the next go by. On Zen 5 8 vectors
// reach 80 % of the register-only limit, 16 over 90 %.
//
// Two forms, which differ in the tweak arithmetic alone: it must not compete with vaesenc, and what competes differs.
//
// Vaes512 is AMD's. Free beside Zen 5's two AES pipes: variable shifts, vpshufd, vpternlog, loads, and one carry-less
// multiplication a vector. vpshldvq would cost 10 %, vpslldq or vpshufb 3 %.
//
// Vaes512Intel. 512-bit vaesenc goes through port 0 alone, once a cycle, and so does every shift, which takes the place
// of a vaesenc. Carry-less multiplications and shuffles go through port 5, which has nothing else to do. On Emerald
// Rapids shifts leave 0.78 of the limit, products 0.97.
#include <immintrin.h>

#include "xts/kernels.h"
#include "xts/pipeline.h"

namespace volseal::xts {
namespace {

struct Vaes512 {
  using Vector = __m512i;
  static constexpr int kLanes = 4;
  static constexpr int kVectorsPerGranule = 8;
  static constexpr int kGranulesInFlight = 2;
  static constexpr int kKeyLag = 0;
  static constexpr int kPrefetchBytes = 8192;
  static constexpr bool kCanStream = true;
  static constexpr auto kShifts = MakeShiftCounts<kLanes, kVectorsPerGranule>();

  VOLSEAL_INLINE static Vector Load(const void* from) { return _mm512_loadu_si512(from); }
  VOLSEAL_INLINE static void Store(uint8_t* to, Vector vector) { _mm512_storeu_si512(to, vector); }
  // Node's large Buffers lie 16 bytes behind a page, where a 512-bit streaming store faults: in quarters there, which
  // is 5 % slower.
  VOLSEAL_INLINE static void Stream(uint8_t* to, Vector vector) {
    if (reinterpret_cast<uintptr_t>(to) % sizeof vector == 0) {
      _mm512_stream_si512(reinterpret_cast<Vector*>(to), vector);
      return;
    }
    __m128i* const quarters = reinterpret_cast<__m128i*>(to);
    _mm_stream_si128(quarters, _mm512_castsi512_si128(vector));
    _mm_stream_si128(quarters + 1, _mm512_extracti32x4_epi32(vector, 1));
    _mm_stream_si128(quarters + 2, _mm512_extracti32x4_epi32(vector, 2));
    _mm_stream_si128(quarters + 3, _mm512_extracti32x4_epi32(vector, 3));
  }
  VOLSEAL_INLINE static void Fence() { _mm_sfence(); }
  VOLSEAL_INLINE static void Keep(Vector& vector) { asm volatile("" : "+v"(vector)); }

  // The barrier keeps the key in its register for all vectors of the round.
  VOLSEAL_INLINE static Vector LoadKey(const uint8_t* key) {
    Vector value = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(key)));
    asm volatile("" : "+v"(value));
    return value;
  }

  // Sector numbers first, first + step, ... as blocks.
  VOLSEAL_INLINE static Vector Units(uint64_t first, uint64_t step) {
    const Vector lanes = _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0);
    const Vector steps = _mm512_mul_epu32(lanes, _mm512_set1_epi64(static_cast<long long>(step)));
    return _mm512_add_epi64(_mm512_maskz_set1_epi64(0x55, static_cast<long long>(first)), steps);
  }

  VOLSEAL_INLINE static Vector Open(Vector data, Vector key) { return _mm512_xor_si512(data, key); }
  VOLSEAL_INLINE static Vector Open(Vector data, Vector tweak, Vector key) {
    return _mm512_ternarylogic_epi64(data, tweak, key, 0x96);
  }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Round(Vector block, Vector key) {
    return kDirection == Direction::kEncrypt ? _mm512_aesenc_epi128(block, key) : _mm512_aesdec_epi128(block, key);
  }

  using Closing = Vector;
  VOLSEAL_INLINE static Closing LoadClosing(const RoundKeys& keys, int rounds) { return LoadKey(keys[rounds]); }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, Closing key) {
    return kDirection == Direction::kEncrypt ? _mm512_aesenclast_epi128(block, key)
                                             : _mm512_aesdeclast_epi128(block, key);
  }
  // The last round adds its key after everything else, so the tweak can ride on it.
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, Vector tweak, Closing key) {
    return Close<kDirection>(block, _mm512_xor_si512(tweak, key));
  }

  // A base, in all lanes.
  using Base = Vector;
  VOLSEAL_INLINE static Base LoadBase(const Tweak& tweak) {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(&tweak)));
  }
  VOLSEAL_INLINE static Vector Polynomial() { return _mm512_set_epi64(0, 0x86, 0, 0x86, 0, 0x86, 0, 0x86); }
  // Times x^32: the four words move up by one; the highest comes back at the bottom, and as 0x86 times itself there.
  VOLSEAL_INLINE static Base NextGranule(Base base) {
    return _mm512_xor_si512(_mm512_shuffle_epi32(base, _MM_PERM_CBAD),
                            _mm512_clmulepi64_epi128(_mm512_srli_epi64(base, 32), Polynomial(), 0x01));
  }

  // base * x^n for n = 4i + lane: both halves shifted left by n; what leaves the low half enters the high one, and what
  // leaves the high half comes back times 0x87: as itself (by the swap of halves) and times 0x86 (by the
  // multiplication).
  class Tweaks {
   public:
    VOLSEAL_INLINE explicit Tweaks(Base base) : base_(base) {}
    VOLSEAL_INLINE Vector Next() {
      const Vector kept = _mm512_sllv_epi64(base_, Load(kShifts.left[index_]));
      const Vector carried = _mm512_srlv_epi64(base_, Load(kShifts.right[index_]));
      ++index_;
      return _mm512_ternarylogic_epi64(kept, _mm512_shuffle_epi32(carried, _MM_PERM_BADC),
                                       _mm512_clmulepi64_epi128(carried, Polynomial(), 0x01), 0x96);
    }

   private:
    const Base base_;
    int index_ = 0;
  };

  // vzeroall knows the lower 16 registers only.
  VOLSEAL_INLINE static void ClearRegisters() {
    asm volatile(
        "vpxord %%zmm16,%%zmm16,%%zmm16\nvpxord %%zmm17,%%zmm17,%%zmm17\nvpxord %%zmm18,%%zmm18,%%zmm18\n"
        "vpxord %%zmm19,%%zmm19,%%zmm19\nvpxord %%zmm20,%%zmm20,%%zmm20\nvpxord %%zmm21,%%zmm21,%%zmm21\n"
        "vpxord %%zmm22,%%zmm22,%%zmm22\nvpxord %%zmm23,%%zmm23,%%zmm23\nvpxord %%zmm24,%%zmm24,%%zmm24\n"
        "vpxord %%zmm25,%%zmm25,%%zmm25\nvpxord %%zmm26,%%zmm26,%%zmm26\nvpxord %%zmm27,%%zmm27,%%zmm27\n"
        "vpxord %%zmm28,%%zmm28,%%zmm28\nvpxord %%zmm29,%%zmm29,%%zmm29\nvpxord %%zmm30,%%zmm30,%%zmm30\n"
        "vpxord %%zmm31,%%zmm31,%%zmm31\nvzeroall\n" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
              "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
              "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
  }
};

struct Vaes512Intel : Vaes512 {
  static constexpr auto kPowers = MakePowers<kLanes, kVectorsPerGranule>();

  // As in Vaes512, with the highest word brought down by a shuffle.
  VOLSEAL_INLINE static Base NextGranule(Base base) {
    return _mm512_xor_si512(_mm512_shuffle_epi32(base, _MM_PERM_CBAD),
                            _mm512_clmulepi64_epi128(_mm512_bsrli_epi128(base, 12), Polynomial(), 0x00));
  }

  // Both halves times x^n: what each product has above its lower half is what Vaes512 shifts out.
  class Tweaks {
   public:
    VOLSEAL_INLINE explicit Tweaks(Base base) : base_(base) {}
    VOLSEAL_INLINE Vector Next() {
      const Vector power = Load(kPowers.of_x[index_++]);
      const Vector low = _mm512_clmulepi64_epi128(base_, power, 0x00);
      const Vector high = _mm512_clmulepi64_epi128(base_, power, 0x01);
      return _mm512_ternarylogic_epi64(low, _mm512_shuffle_epi32(high, _MM_PERM_BADC),
                                       _mm512_clmulepi64_epi128(high, Polynomial(), 0x01), 0x96);
    }

   private:
    const Base base_;
    int index_ = 0;
  };
};

}  // namespace

const Kernel kVaes512Kernel = MakeKernel<Vaes512>("vaes512", "tweaks by shifts");
const Kernel kVaes512IntelKernel = MakeKernel<Vaes512Intel>("vaes512", "tweaks by products");

}  // namespace volseal::xts
