#include "vault/vault.h"

#include <utility>

#include "base/wipe.h"
#include "xts/self_test.h"

namespace volseal::vault {
Status KeyGone() { return Failure(Code::kKeyGone, "the key was wiped: its handle names no key"); }

Vault& Vault::OfProcess() {
  static Vault* const vault = new Vault;  // never destroyed: worker threads may outlive static destructors
  return *vault;
}

Status Vault::Grow() {
  if (slot_count_ + kSlotsPerMapping > kHandleIndexEnd) return Failure(Code::kMemoryLock, "the key vault is full");
  auto pages = MapLockedPages(kSlotsPerMapping * kSlotBytes);
  if (!pages.ok()) return pages.status();
  backend_ = pages.value().backend;
  Slot* const slots = new Slot[kSlotsPerMapping];
  for (size_t i = 0; i < kSlotsPerMapping; ++i) slots[i].page = pages.value().data + i * kSlotBytes;
  mappings_[slot_count_ / kSlotsPerMapping] = slots;
  slot_count_ += kSlotsPerMapping;
  return Ok();
}

Result<VaultInfo> Vault::Info() {
  const std::lock_guard guard(mutex_);
  if (slot_count_ == 0) {
    if (Status status = Grow(); !status.ok()) return status;
  }
  size_t live = 0;
  for (size_t i = 0; i < slot_count_; ++i) live += SlotAt(i).state == State::kLive;
  return VaultInfo{*backend_, live, slot_count_ * kSlotBytes};
}

Result<NewKey> Vault::Reserve() {
  const std::lock_guard guard(mutex_);
  const auto is_taken = [](const Slot& slot) { return slot.state != State::kFree || slot.generation == UINT32_MAX; };
  size_t index = 0;
  while (index < slot_count_ && is_taken(SlotAt(index))) ++index;
  if (index == slot_count_) {
    if (Status status = Grow(); !status.ok()) return status;
  }
  SlotAt(index).state = State::kFilling;
  return NewKey(this, index, SlotAt(index).page);
}

Slot* Vault::Find(KeyHandle handle) {
  if (!IsHandleOf(HandleKind::kKey, handle)) return nullptr;
  Slot* const mapping = mappings_[HandleIndex(handle) / kSlotsPerMapping];
  return mapping ? mapping + HandleIndex(handle) % kSlotsPerMapping : nullptr;
}

Slot* Vault::FindLive(KeyHandle handle) {
  Slot* const slot = Find(handle);
  return slot && slot->live == handle ? slot : nullptr;
}

Result<PinnedKey> Vault::Pin(KeyHandle handle) {
  Slot* const slot = Find(handle);
  if (!slot) return KeyGone();
  ++slot->pins;
  if (slot->live == handle) return PinnedKey(this, *slot);
  Unpin(*slot);
  return KeyGone();
}

Result<PinnedKey> Vault::PinVolumeKey(KeyHandle handle) {
  auto key = Pin(handle);
  if (key.ok() && !key.value().is_volume_key())
    return Failure(Code::kArgument, "the key is not a volume key: prepare it first");
  return key;
}

Status Vault::MakeVolumeKey(KeyHandle handle) {
  const std::lock_guard guard(mutex_);
  Slot* const slot = FindLive(handle);
  if (!slot) return KeyGone();
  if (slot->is_volume_key) return Ok();
  if (Status status = xts::SelfTest(); !status.ok()) return status;
  const Bytes key(slot->page, slot->length);
  if (!xts::IsXtsKeyLength(key.size())) {
    return Failure(Code::kArgument, "an XTS key has 64 or 32 bytes, this one has " + std::to_string(key.size()));
  }
  if (xts::HalvesAreEqual(key)) {
    return Failure(Code::kArgument,
                   "the two halves of the XTS key are equal: IEEE 1619 forbids such a key, make a new one");
  }
  xts::ExpandXtsKey(key, reinterpret_cast<VolumeKey*>(slot->page)->schedule);
  slot->is_volume_key = true;
  return Ok();
}

bool Vault::WipeKey(KeyHandle handle) {
  std::unique_lock lock(mutex_);
  Slot* const slot = FindLive(handle);
  if (!slot) return false;
  slot->state = State::kEnding;
  slot->live = 0;
  unpinned_.wait(lock, [&] { return slot->pins == 0; });
  Free(*slot);
  return true;
}

void Vault::Free(Slot& slot) {
  Wipe(slot.page, kSlotBytes);
  slot.state = State::kFree;
  slot.length = 0;
  slot.is_volume_key = false;
}

void Vault::Unpin(Slot& slot) {
  if (--slot.pins != 0 || slot.live != 0) return;
  // Somebody may be waiting; with the lock, so that this does not fall between their look and their sleep.
  const std::lock_guard guard(mutex_);
  unpinned_.notify_all();
}

NewKey::NewKey(NewKey&& other) noexcept
    : vault_(std::exchange(other.vault_, nullptr)), index_(other.index_), page_(other.page_) {}

NewKey::~NewKey() {
  if (!vault_) return;
  const std::lock_guard guard(vault_->mutex_);
  vault_->Free(vault_->SlotAt(index_));
}

KeyHandle NewKey::Commit(size_t key_bytes) {
  Vault* const vault = std::exchange(vault_, nullptr);
  const std::lock_guard guard(vault->mutex_);
  Slot& slot = vault->SlotAt(index_);
  slot.state = Slot::State::kLive;
  slot.length = key_bytes;
  slot.live = MakeHandle(HandleKind::kKey, ++slot.generation, index_);
  return slot.live;
}

PinnedKey::PinnedKey(Vault* vault, Slot& slot)
    : vault_(vault), slot_(&slot), page_(slot.page), length_(slot.length), is_volume_key_(slot.is_volume_key) {}

PinnedKey::PinnedKey(PinnedKey&& other) noexcept
    : vault_(std::exchange(other.vault_, nullptr)),
      slot_(other.slot_),
      page_(other.page_),
      length_(other.length_),
      is_volume_key_(other.is_volume_key_) {}

PinnedKey::~PinnedKey() {
  if (vault_) vault_->Unpin(*slot_);
}

}  // namespace volseal::vault
