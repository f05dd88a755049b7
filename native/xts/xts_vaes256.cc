// The VAES-256 kernel: two blocks a vector, AVX2 registers.
//
// For: processors with VAES and without AVX-512 (AMD Zen 3, Intel Alder Lake to Arrow Lake), operating systems that do
// not save 512-bit registers, and Intel's Ice Lake and Tiger Lake, which lower their clock for 512-bit vectors. Width:
// 256 bits. In flight: 8 vectors, 16 blocks, 256 bytes. Registers: of 16, 8 hold data, 1 the round key, 1 the base, 1
// the polynomial; the rest is for the tweak arithmetic. Why 8: they cover two AES units times four cycles of latency;
// 12 (as in AES-NI) leave no room for the bases, and their spilling costs more than they gain. The prefetch is not an
// ornament: at certain distances between source and target the kernel falls to a quarter without it.
//
// Three forms, which differ in the tweak arithmetic alone: Vaes256 is for AMD from Zen 4 on, whose shifts do not
// compete with vaesenc. In Vaes256Intel carry-less multiplications and shuffles stand for shifts, which go through the
// two ports of vaesenc (Golden Cove: 0.84 of the limit for 0.78). What is left to lose there is whatever else there is:
// vaesenc takes two of three ports. Intel's efficiency cores run this form too; nobody has measured them. The third is
// for Zen 3: general registers make the tweaks (scalar_tweaks.h).
#include <immintrin.h>

#include "xts/kernels.h"
#include "xts/pipeline.h"
#include "xts/scalar_tweaks.h"

namespace volseal::xts {
namespace {

struct Vaes256 {
  using Vector = __m256i;
  static constexpr int kLanes = 2;
  static constexpr int kVectorsPerGranule = 8;
  static constexpr int kGranulesInFlight = 1;
  static constexpr int kKeyLag = 0;
  static constexpr int kPrefetchBytes = 2048;
  static constexpr bool kCanStream = true;
  static constexpr auto kShifts = MakeShiftCounts<kLanes, kVectorsPerGranule>();

  VOLSEAL_INLINE static Vector Load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  VOLSEAL_INLINE static void Store(uint8_t* to, Vector vector) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), vector);
  }
  // In halves: Node's large Buffers lie 16 bytes behind a page, where a 256-bit streaming store faults.
  VOLSEAL_INLINE static void Stream(uint8_t* to, Vector vector) {
    __m128i* const halves = reinterpret_cast<__m128i*>(to);
    _mm_stream_si128(halves, _mm256_castsi256_si128(vector));
    _mm_stream_si128(halves + 1, _mm256_extracti128_si256(vector, 1));
  }
  VOLSEAL_INLINE static void Fence() { _mm_sfence(); }
  VOLSEAL_INLINE static void Keep(Vector& vector) { asm volatile("" : "+x"(vector)); }

  // The barrier keeps the key in its register for all vectors of the round.
  VOLSEAL_INLINE static Vector LoadKey(const uint8_t* key) {
    Vector value = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(key)));
    asm volatile("" : "+x"(value));
    return value;
  }

  // Sector numbers first and first + step as blocks.
  VOLSEAL_INLINE static Vector Units(uint64_t first, uint64_t step) {
    return _mm256_set_epi64x(0, static_cast<long long>(first + step), 0, static_cast<long long>(first));
  }

  VOLSEAL_INLINE static Vector Open(Vector data, Vector key) { return _mm256_xor_si256(data, key); }
  VOLSEAL_INLINE static Vector Open(Vector data, Vector tweak, Vector key) {
    return _mm256_xor_si256(_mm256_xor_si256(tweak, key), data);
  }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Round(Vector block, Vector key) {
    return kDirection == Direction::kEncrypt ? _mm256_aesenc_epi128(block, key) : _mm256_aesdec_epi128(block, key);
  }

  using Closing = Vector;
  VOLSEAL_INLINE static Closing LoadClosing(const RoundKeys& keys, int rounds) { return LoadKey(keys[rounds]); }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, Closing key) {
    return kDirection == Direction::kEncrypt ? _mm256_aesenclast_epi128(block, key)
                                             : _mm256_aesdeclast_epi128(block, key);
  }
  // The last round adds its key after everything else, so the tweak can ride on it.
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, Vector tweak, Closing key) {
    return Close<kDirection>(block, _mm256_xor_si256(tweak, key));
  }

  // A base, in both lanes.
  using Base = Vector;
  VOLSEAL_INLINE static Base LoadBase(const Tweak& tweak) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(&tweak)));
  }
  // Times x^16.
  VOLSEAL_INLINE static Base NextGranule(Base base) {
    return Reduce(_mm256_slli_epi64(base, 16), _mm256_srli_epi64(base, 48));
  }

  // base * x^n for n = 2i + lane.
  class Tweaks {
   public:
    VOLSEAL_INLINE explicit Tweaks(Base base) : base_(base) {}
    VOLSEAL_INLINE Vector Next() {
      const Vector kept = _mm256_sllv_epi64(base_, Load(kShifts.left[index_]));
      const Vector carried = _mm256_srlv_epi64(base_, Load(kShifts.right[index_]));
      ++index_;
      return Reduce(kept, carried);
    }

   private:
    const Base base_;
    int index_ = 0;
  };

  // Both halves of a tweak were shifted left. What left the low half enters the high one; what left the high half comes
  // back times 0x87: as itself (by the swap of halves) and times 0x86 (by the multiplication).
  VOLSEAL_INLINE static Vector Reduce(Vector kept, Vector carried) {
    const Vector polynomial = _mm256_set_epi64x(0, 0x86, 0, 0x86);
    return _mm256_xor_si256(_mm256_xor_si256(kept, _mm256_shuffle_epi32(carried, 0x4E)),
                            _mm256_clmulepi64_epi128(carried, polynomial, 0x01));
  }

  VOLSEAL_INLINE static void ClearRegisters() {
    asm volatile("vzeroall" ::
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15");
  }
};

struct Vaes256Intel : Vaes256 {
  static constexpr int kMultiplied = 4;  // vectors of a granule; eight powers of x further lies one byte
  static constexpr auto kPowers = MakePowers<kLanes, kMultiplied>();

  VOLSEAL_INLINE static Base NextGranule(Base base) { return ByBytes<2>(base); }

  // Times x^(8n): the bytes move up by n; the upper ones come back at the bottom, times 0x87.
  template <int n>
  VOLSEAL_INLINE static Vector ByBytes(Vector tweak) {
    return _mm256_xor_si256(_mm256_bslli_epi128(tweak, n), _mm256_clmulepi64_epi128(_mm256_bsrli_epi128(tweak, 16 - n),
                                                                                    _mm256_set1_epi64x(0x87), 0x00));
  }

  // Both halves of the base times x^n: what each product has above its lower half is what Vaes256 shifts out.
  class Tweaks {
   public:
    VOLSEAL_INLINE explicit Tweaks(Base base) : base_(base) {}
    VOLSEAL_INLINE Vector Next() {
      const int index = index_++;
      if (index >= kMultiplied) return ByBytes<1>(made_[index - kMultiplied]);
      const Vector power = Load(kPowers.of_x[index]);
      made_[index] = Reduce(_mm256_clmulepi64_epi128(base_, power, 0x00), _mm256_clmulepi64_epi128(base_, power, 0x01));
      return made_[index];
    }

   private:
    const Base base_;
    Vector made_[kMultiplied];
    int index_ = 0;
  };
};

}  // namespace

const Kernel kVaes256Kernel = MakeKernel<Vaes256>("vaes256", "tweaks by shifts");
const Kernel kVaes256IntelKernel = MakeKernel<Vaes256Intel>("vaes256", "tweaks by products");
const Kernel kVaes256Zen3Kernel = MakeKernel<WithScalarTweaks<Vaes256>>("vaes256", "tweaks in general registers");

}  // namespace volseal::xts
