// The portable kernel: for processors without AES instructions, and the second opinion on those that have them.
// Bitsliced AES (aes_portable.h), eight blocks a pass, constant in time; about a sixtieth of the AES-NI kernel's speed.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/wipe.h"
#include "xts/kernels.h"
#include "xts/key_schedule.h"
#include "xts/tweak.h"

namespace volseal::xts {
namespace {

void XorBlock(uint8_t* bytes, Tweak tweak) {
  StoreLittle64(bytes, LoadLittle64(bytes) ^ tweak.low);
  StoreLittle64(bytes + 8, LoadLittle64(bytes + 8) ^ tweak.high);
}

using BlockCipher = void (*)(const SlicedRoundKey*, int, uint8_t*);

void RunSectors(const KeySchedule& key, const uint8_t* source, uint8_t* target, SectorRun run, BlockCipher cipher) {
  struct {
    uint8_t bases[kPortableBytes];  // the first tweaks of eight sectors
    uint8_t blocks[kPortableBytes];
    Tweak tweaks[kPortableBlocks];
  } work;
  const WipeOnExit wipe(work);
  for (size_t sector = 0; sector < run.sector_count; ++sector) {
    const size_t in_batch = sector % kPortableBlocks;
    if (in_batch == 0) {
      for (size_t i = 0; i < kPortableBlocks; ++i) {
        const uint64_t unit = run.first_unit + (sector + i) * (run.sector_bytes / kTweakUnitBytes);
        StoreLittle64(work.bases + 16 * i, unit);
        StoreLittle64(work.bases + 16 * i + 8, 0);
      }
      EncryptBlocks(key.tweak_sliced, key.rounds, work.bases);
    }
    Tweak tweak = {LoadLittle64(work.bases + 16 * in_batch), LoadLittle64(work.bases + 16 * in_batch + 8)};
    for (size_t done = 0; done < run.sector_bytes; done += kPortableBytes) {
      std::memcpy(work.blocks, source, kPortableBytes);
      for (size_t i = 0; i < kPortableBlocks; ++i) {
        work.tweaks[i] = tweak;
        XorBlock(work.blocks + 16 * i, tweak);
        tweak = TimesXPower<1>(tweak);
      }
      cipher(key.data_sliced, key.rounds, work.blocks);
      for (size_t i = 0; i < kPortableBlocks; ++i) XorBlock(work.blocks + 16 * i, work.tweaks[i]);
      std::memcpy(target, work.blocks, kPortableBytes);
      source += kPortableBytes;
      target += kPortableBytes;
    }
    Wipe(&tweak, sizeof tweak);
  }
}

void Encrypt(const KeySchedule& key, const uint8_t* source, uint8_t* target, SectorRun run) {
  RunSectors(key, source, target, run, EncryptBlocks);
  WipeUsedStack();
}

void Decrypt(const KeySchedule& key, const uint8_t* source, uint8_t* target, SectorRun run) {
  RunSectors(key, source, target, run, DecryptBlocks);
  WipeUsedStack();
}

}  // namespace

const Kernel kPortableKernel = {"portable", "", 128, Encrypt, Decrypt, nullptr, nullptr};

}  // namespace volseal::xts
