#include "vault/vault.h"

#include <utility>

#include "base/handle_table.h"
#include "base/wipe.h"
#include "xts/self_test.h"

namespace volseal::vault {
namespace {

constexpr size_t kSlotsPerMapping = 16;

}  // namespace

Status KeyGone() { return Failure(Code::kKeyGone, "the key was wiped: its handle names no key"); }

Vault& Vault::OfProcess() {
  static Vault* const vault = new Vault;  // never destroyed: worker threads may outlive static destructors
  return *vault;
}

Status Vault::Grow() {
  if (slots_.size() + kSlotsPerMapping > kHandleIndexEnd) return Failure(Code::kMemoryLock, "the key vault is full");
  auto pages = MapLockedPages(kSlotsPerMapping * kSlotBytes);
  if (!pages.ok()) return pages.status();
  backend_ = pages.value().backend;
  for (size_t i = 0; i < kSlotsPerMapping; ++i) slots_.emplace_back(pages.value().data + i * kSlotBytes);
  return Ok();
}

Result<VaultInfo> Vault::Info() {
  const std::lock_guard guard(mutex_);
  if (slots_.empty()) {
    if (Status status = Grow(); !status.ok()) return status;
  }
  size_t live = 0;
  for (const Slot& slot : slots_) live += slot.state == State::kLive;
  return VaultInfo{*backend_, live, slots_.size() * kSlotBytes};
}

Result<NewKey> Vault::Reserve() {
  const std::lock_guard guard(mutex_);
  size_t index = 0;
  while (index < slots_.size() && (slots_[index].state != State::kFree || slots_[index].generation == UINT32_MAX))
    ++index;
  if (index == slots_.size()) {
    if (Status status = Grow(); !status.ok()) return status;
  }
  slots_[index].state = State::kFilling;
  return NewKey(this, index, slots_[index].page);
}

Slot* Vault::SlotOf(KeyHandle handle) {
  const size_t index = HandleIndex(handle);
  if (!IsHandleOf(HandleKind::kKey, handle) || index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  return slot.state == State::kLive && slot.generation == HandleGeneration(handle) ? &slot : nullptr;
}

Result<PinnedKey> Vault::Pin(KeyHandle handle) {
  const std::lock_guard guard(mutex_);
  Slot* const slot = SlotOf(handle);
  if (!slot) return KeyGone();
  return PinnedKey(this, *slot);
}

Result<PinnedKey> Vault::PinVolumeKey(KeyHandle handle) {
  auto key = Pin(handle);
  if (key.ok() && !key.value().is_volume_key())
    return Failure(Code::kArgument, "the key is not a volume key: prepare it first");
  return key;
}

Status Vault::MakeVolumeKey(KeyHandle handle) {
  const std::lock_guard guard(mutex_);
  Slot* const slot = SlotOf(handle);
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
  Slot* slot = SlotOf(handle);
  if (!slot) return false;
  slot->state = State::kEnding;
  slot->ending = true;
  unpinned_.wait(lock, [&] { return slot->pins == 0; });
  slot->ending = false;
  Free(*slot);
  return true;
}

void Vault::Free(Slot& slot) {
  Wipe(slot.page, kSlotBytes);
  slot.state = State::kFree;
  slot.length = 0;
  slot.is_volume_key = false;
}

// Sequentially consistent on both sides: either this sees `ending`, or the waiter sees no pins.
void Vault::Unpin(Slot& slot) {
  if (slot.pins.fetch_sub(1) != 1 || !slot.ending) return;
  const std::lock_guard guard(mutex_);
  unpinned_.notify_all();
}

NewKey::NewKey(NewKey&& other) noexcept
    : vault_(std::exchange(other.vault_, nullptr)), index_(other.index_), page_(other.page_) {}

NewKey::~NewKey() {
  if (!vault_) return;
  const std::lock_guard guard(vault_->mutex_);
  vault_->Free(vault_->slots_[index_]);
}

KeyHandle NewKey::Commit(size_t key_bytes) {
  Vault* const vault = std::exchange(vault_, nullptr);
  const std::lock_guard guard(vault->mutex_);
  Slot& slot = vault->slots_[index_];
  slot.state = Slot::State::kLive;
  slot.length = key_bytes;
  return MakeHandle(HandleKind::kKey, ++slot.generation, index_);
}

PinnedKey::PinnedKey(Vault* vault, Slot& slot)
    : vault_(vault), slot_(&slot), page_(slot.page), length_(slot.length), is_volume_key_(slot.is_volume_key) {
  ++slot.pins;
}

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
