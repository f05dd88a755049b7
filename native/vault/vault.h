// The key vault: every key of the process, in slots of one locked page each, behind generational handles.
//
// One vault a process; all calls are safe from any thread. A handle whose key was wiped never names a key again.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "base/bytes.h"
#include "base/handle_table.h"
#include "base/status.h"
#include "vault/locked_memory.h"
#include "xts/key_schedule.h"

namespace volseal::vault {

using KeyHandle = uint64_t;

constexpr size_t kSlotBytes = 4096;
constexpr size_t kKeyBytesMax = kSlotBytes;  // what KMS encrypts at most

// What a volume key's page holds: the key, its round keys behind it.
struct VolumeKey {
  uint8_t key[64];
  xts::KeySchedule schedule;
};
static_assert(sizeof(VolumeKey) <= kSlotBytes);

class Vault;

// A page of locked memory and what it holds; the vault's own. Pinning takes no lock, so that the threads that move a
// volume's data do not wait for each other:
//   pin:   raise `pins`, then see whether `live` is the handle; if not, lower `pins` again and touch nothing
//   wipe:  clear `live`, then wait until `pins` is 0
// All four are sequentially consistent: either who pins sees that the key is gone, or who wipes sees the pin.
struct Slot {
  enum class State { kFree, kFilling, kLive, kEnding };

  std::atomic<KeyHandle> live = 0;  // the handle of the key, 0 where there is none to be used
  std::atomic<size_t> pins = 0;
  std::atomic<bool> is_volume_key = false;
  size_t length = 0;  // changes only while `live` is 0
  uint8_t* page = nullptr;
  // Under the vault's mutex:
  State state = State::kFree;
  uint32_t generation = 0;
};

// A slot under construction: write into `data()`, then Commit() gives the handle. Without Commit it is wiped: so it
// serves as locked scratch memory too.
class NewKey {
 public:
  NewKey(NewKey&& other) noexcept;
  NewKey& operator=(NewKey&&) = delete;
  ~NewKey();
  uint8_t* data() const { return page_; }  // kSlotBytes, zeroed, page-aligned
  template <typename T>
  T& As() const {
    static_assert(sizeof(T) <= kSlotBytes);
    return *reinterpret_cast<T*>(page_);
  }
  KeyHandle Commit(size_t key_bytes);

 private:
  friend class Vault;
  NewKey(Vault* vault, size_t index, uint8_t* page) : vault_(vault), index_(index), page_(page) {}
  Vault* vault_;  // nullptr once committed or moved from
  size_t index_;
  uint8_t* page_;
};

// A key in use: while this lives, the slot is not wiped.
class PinnedKey {
 public:
  PinnedKey(PinnedKey&& other) noexcept;
  PinnedKey& operator=(PinnedKey&&) = delete;
  ~PinnedKey();
  Bytes bytes() const { return {page_, length_}; }
  bool is_volume_key() const { return is_volume_key_; }
  // The expanded keys; only where is_volume_key().
  const xts::KeySchedule& schedule() const { return reinterpret_cast<const VolumeKey*>(page_)->schedule; }

 private:
  friend class Vault;
  PinnedKey(Vault* vault, Slot& slot);  // of a slot that was pinned for it
  Vault* vault_;                        // nullptr once moved from
  Slot* slot_;
  const uint8_t* page_;
  size_t length_;
  bool is_volume_key_;  // as it was when pinned: MakeVolumeKey may run meanwhile
};

struct VaultInfo {
  Backend backend;
  size_t live_keys;
  size_t locked_bytes;
};

class Vault {
 public:
  static Vault& OfProcess();

  Result<VaultInfo> Info();
  Result<NewKey> Reserve();
  Result<PinnedKey> Pin(KeyHandle handle);
  // The same for a key that MakeVolumeKey has seen; kArgument for any other.
  Result<PinnedKey> PinVolumeKey(KeyHandle handle);
  // Expands a 32- or 64-byte key's round keys into its page. kArgument: another length, equal halves;
  // kSelfTest: the cipher gives wrong bytes.
  Status MakeVolumeKey(KeyHandle handle);
  // Waits for the pins to go, then wipes. False where the handle names no key.
  bool WipeKey(KeyHandle handle);

 private:
  friend class NewKey;
  friend class PinnedKey;
  using State = Slot::State;

  static constexpr size_t kSlotsPerMapping = 16;

  Slot& SlotAt(size_t index) { return mappings_[index / kSlotsPerMapping][index % kSlotsPerMapping]; }
  Status Grow();                 // maps more slots; mutex_ held
  Slot* Find(KeyHandle handle);  // the slot that the handle speaks of, which may hold another key by now, or nullptr
  Slot* FindLive(KeyHandle handle);  // the slot that holds this key, or nullptr; mutex_ held
  void Free(Slot& slot);             // wipes; mutex_ held
  void Unpin(Slot& slot);

  std::mutex mutex_;
  std::condition_variable unpinned_;
  // Slots keep their place in memory and are never given back.
  std::array<std::atomic<Slot*>, kHandleIndexEnd / kSlotsPerMapping> mappings_ = {};
  size_t slot_count_ = 0;
  std::optional<Backend> backend_;
};

// The Status of a handle that names no key.
Status KeyGone();

}  // namespace volseal::vault
