// The Armv8 kernel: the Crypto Extensions' AES instructions, one block a vector.
//
// For: 64-bit Arm with FEAT_AES: Graviton, Ampere, Apple's, and nearly every phone; not the Raspberry Pi before its
// fifth. Width: 128 bits. In flight: 8 vectors, 8 blocks, 128 bytes. Registers: of 32, 8 hold data, 1 the round key;
// the tweaks are doubled in general registers, which the AES units do not need. Why 8: aese and aesmc together take 4
// to 6 cycles, on up to four units on the widest cores (Neoverse V); they stand side by side in pairs, which these
// cores fuse into one operation. Arm's aese adds the round key first, x86's aesenc last: so round r takes key r - 1,
// and the closing takes two keys. The streaming stores of Arm are a hint that most cores ignore, so there are none
// here.
#include <arm_neon.h>

#include "xts/kernels.h"
#include "xts/pipeline.h"

namespace volseal::xts {
namespace {

struct Armv8 {
  using Vector = uint8x16_t;
  static constexpr int kLanes = 1;
  static constexpr int kVectorsPerGranule = 8;
  static constexpr int kGranulesInFlight = 1;
  static constexpr int kKeyLag = 1;
  static constexpr int kPrefetchBytes = 2048;
  static constexpr bool kCanStream = false;

  VOLSEAL_INLINE static Vector Load(const void* from) { return vld1q_u8(static_cast<const uint8_t*>(from)); }
  VOLSEAL_INLINE static void Store(uint8_t* to, Vector vector) { vst1q_u8(to, vector); }
  VOLSEAL_INLINE static void Stream(uint8_t* to, Vector vector) { Store(to, vector); }
  VOLSEAL_INLINE static void Fence() {}
  VOLSEAL_INLINE static void Keep(Vector& vector) { asm volatile("" : "+w"(vector)); }

  // The barrier keeps the key in its register for all vectors of the round.
  VOLSEAL_INLINE static Vector LoadKey(const uint8_t* key) {
    Vector value = vld1q_u8(key);
    asm volatile("" : "+w"(value));
    return value;
  }

  VOLSEAL_INLINE static Vector AsVector(Tweak tweak) {
    return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(tweak.low), vcreate_u64(tweak.high)));
  }
  VOLSEAL_INLINE static Vector Units(uint64_t first, uint64_t) { return AsVector({first, 0}); }

  // The first key is the first round's here.
  VOLSEAL_INLINE static Vector Open(Vector data, Vector) { return data; }
  VOLSEAL_INLINE static Vector Open(Vector data, Vector tweak, Vector) { return veorq_u8(data, tweak); }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Round(Vector block, Vector key) {
    return kDirection == Direction::kEncrypt ? vaesmcq_u8(vaeseq_u8(block, key)) : vaesimcq_u8(vaesdq_u8(block, key));
  }

  struct Closing {
    Vector before_last;
    Vector last;
  };
  VOLSEAL_INLINE static Closing LoadClosing(const RoundKeys& keys, int rounds) {
    return {LoadKey(keys[rounds - 1]), LoadKey(keys[rounds])};
  }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, const Closing& keys) {
    const Vector substituted =
        kDirection == Direction::kEncrypt ? vaeseq_u8(block, keys.before_last) : vaesdq_u8(block, keys.before_last);
    return veorq_u8(substituted, keys.last);
  }
  template <Direction kDirection>
  VOLSEAL_INLINE static Vector Close(Vector block, Vector tweak, const Closing& keys) {
    return Close<kDirection>(block, {keys.before_last, veorq_u8(keys.last, tweak)});
  }

  using Base = Tweak;
  VOLSEAL_INLINE static Base LoadBase(const Tweak& tweak) { return tweak; }
  VOLSEAL_INLINE static Base NextGranule(Base base) { return TimesXPower<kVectorsPerGranule>(base); }

  class Tweaks {
   public:
    VOLSEAL_INLINE explicit Tweaks(const Base& base) : next_(base) {}
    VOLSEAL_INLINE Vector Next() {
      const Vector tweak = AsVector(next_);
      next_ = TimesXPower<1>(next_);
      return tweak;
    }

   private:
    Tweak next_;
  };

  VOLSEAL_INLINE static void ClearRegisters() {
    asm volatile(
        "movi v0.16b,#0\nmovi v1.16b,#0\nmovi v2.16b,#0\nmovi v3.16b,#0\nmovi v4.16b,#0\nmovi v5.16b,#0\n"
        "movi v6.16b,#0\nmovi v7.16b,#0\nmovi v16.16b,#0\nmovi v17.16b,#0\nmovi v18.16b,#0\nmovi v19.16b,#0\n"
        "movi v20.16b,#0\nmovi v21.16b,#0\nmovi v22.16b,#0\nmovi v23.16b,#0\nmovi v24.16b,#0\nmovi v25.16b,#0\n"
        "movi v26.16b,#0\nmovi v27.16b,#0\nmovi v28.16b,#0\nmovi v29.16b,#0\nmovi v30.16b,#0\nmovi v31.16b,#0\n"
        "movi v8.16b,#0\nmovi v9.16b,#0\nmovi v10.16b,#0\nmovi v11.16b,#0\n"
        "movi v12.16b,#0\nmovi v13.16b,#0\nmovi v14.16b,#0\nmovi v15.16b,#0\n" ::
            : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
              "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30",
              "v31");
  }
};

}  // namespace

const Kernel kArmv8Kernel = MakeKernel<Armv8>("armv8");

}  // namespace volseal::xts
