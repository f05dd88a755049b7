#include "vault/keyslot.h"

#include <sys/random.h>

#include <cerrno>

#include "base/wipe.h"
#include "vault/hmac.h"
#include "xts/dispatch.h"
#include "xts/self_test.h"

namespace volseal::vault {
namespace {

constexpr size_t kSectorBytes = 512;  // of an area, whatever the volume's sectors
constexpr size_t kPieceStripes = 32;
constexpr size_t kPieces = kStripes / kPieceStripes;
static_assert(kStripes % kPieceStripes == 0 && kPieceStripes * 32 % kSectorBytes == 0);

struct Scratch {
  Diffusion diffusion;
  uint8_t stripes[kPieceStripes * kStripeBytesMax];
};

// The slot key, expanded; locked.
Result<NewKey> SlotKey(Bytes passphrase, const KeyslotParameters& parameters) {
  if (Status status = xts::SelfTest(); !status.ok()) return status;
  auto reserved = Vault::OfProcess().Reserve();
  if (!reserved.ok()) return reserved;
  auto& slot_key = reserved.value().As<VolumeKey>();
  const MutableBytes key = MutableBytes(slot_key.key).first(parameters.slot_key_bytes);
  if (Status status = Pbkdf2(parameters.kdf_hash, passphrase, parameters.salt, parameters.iterations, key);
      !status.ok()) {
    return status;
  }
  xts::ExpandXtsKey(key, slot_key.schedule);
  return reserved;
}

xts::SectorRun RunOf(size_t piece, size_t piece_bytes) {
  return {piece * (piece_bytes / kSectorBytes), kSectorBytes, piece_bytes / kSectorBytes};
}

Status FillRandom(uint8_t* target, size_t length) {
  for (size_t done = 0; done < length;) {
    const ssize_t count = getrandom(target + done, length - done, 0);
    if (count < 0 && errno != EINTR) return SystemFailure(errno, "getrandom");
    if (count > 0) done += static_cast<size_t>(count);
  }
  return Ok();
}

}  // namespace

Status SealKeyslot(Bytes passphrase, Bytes volume_key, const KeyslotParameters& parameters, MutableBytes area) {
  const size_t stripe_bytes = volume_key.size();
  if (!xts::IsXtsKeyLength(stripe_bytes)) {
    return Failure(Code::kArgument,
                   "a keyslot holds a key of 64 or 32 bytes, this one has " + std::to_string(stripe_bytes));
  }
  const size_t piece_bytes = kPieceStripes * stripe_bytes;
  auto slot_key = SlotKey(passphrase, parameters);
  if (!slot_key.ok()) return slot_key.status();
  auto reserved = Vault::OfProcess().Reserve();
  if (!reserved.ok()) return reserved.status();
  auto& scratch = reserved.value().As<Scratch>();
  for (size_t piece = 0; piece < kPieces; ++piece) {
    if (Status status = FillRandom(scratch.stripes, piece_bytes); !status.ok()) return status;
    for (size_t i = 0; i < kPieceStripes; ++i) {
      uint8_t* const stripe = scratch.stripes + i * stripe_bytes;
      if (piece == kPieces - 1 && i == kPieceStripes - 1)
        FinishDiffusion(scratch.diffusion, volume_key, stripe);
      else
        Diffuse(scratch.diffusion, parameters.af_hash, {stripe, stripe_bytes});
    }
    xts::ActiveKernel().encrypt(slot_key.value().As<VolumeKey>().schedule, scratch.stripes,
                                area.data() + piece * piece_bytes, RunOf(piece, piece_bytes));
  }
  WipeUsedStack();
  return Ok();
}

Result<KeyHandle> OpenKeyslot(Bytes passphrase, const KeyslotParameters& parameters, Bytes area) {
  const size_t stripe_bytes = area.size() / kStripes;
  const size_t piece_bytes = kPieceStripes * stripe_bytes;
  auto slot_key = SlotKey(passphrase, parameters);
  if (!slot_key.ok()) return slot_key.status();
  auto reserved = Vault::OfProcess().Reserve();
  if (!reserved.ok()) return reserved.status();
  auto opened = Vault::OfProcess().Reserve();
  if (!opened.ok()) return opened.status();
  auto& scratch = reserved.value().As<Scratch>();
  for (size_t piece = 0; piece < kPieces; ++piece) {
    xts::ActiveKernel().decrypt(slot_key.value().As<VolumeKey>().schedule, area.data() + piece * piece_bytes,
                                scratch.stripes, RunOf(piece, piece_bytes));
    for (size_t i = 0; i < kPieceStripes; ++i) {
      const Bytes stripe(scratch.stripes + i * stripe_bytes, stripe_bytes);
      if (piece == kPieces - 1 && i == kPieceStripes - 1)
        FinishDiffusion(scratch.diffusion, stripe, opened.value().data());
      else
        Diffuse(scratch.diffusion, parameters.af_hash, stripe);
    }
  }
  WipeUsedStack();
  return opened.value().Commit(stripe_bytes);
}

}  // namespace volseal::vault
