// Generational handles for shared objects: a handle of a removed object never names a later one.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace volseal {

// What a handle names. The kind is part of the number, so that no handle is taken for one of another kind.
enum class HandleKind : uint64_t { kServer = 0, kKey = 1, kDevice = 2, kTransform = 3, kMove = 4, kStore = 5 };

// A handle is generation * 2^20 + kind * 2^17 + index, at most 2^52: exact as a JavaScript number. 0 is never a handle.
constexpr int kHandleIndexBits = 17;
constexpr int kHandleGenerationShift = 20;
constexpr size_t kHandleIndexEnd = size_t{1} << kHandleIndexBits;
constexpr uint64_t kHandleMax = (uint64_t{1} << 52) - 1;

constexpr uint64_t MakeHandle(HandleKind kind, uint32_t generation, size_t index) {
  return uint64_t{generation} << kHandleGenerationShift | static_cast<uint64_t>(kind) << kHandleIndexBits | index;
}
constexpr size_t HandleIndex(uint64_t handle) { return handle & (kHandleIndexEnd - 1); }
constexpr uint32_t HandleGeneration(uint64_t handle) { return static_cast<uint32_t>(handle >> kHandleGenerationShift); }
constexpr bool IsHandleOf(HandleKind kind, uint64_t handle) {
  return (handle >> kHandleIndexBits & 7) == static_cast<uint64_t>(kind);
}

template <typename T, HandleKind kKind>
class HandleTable {
 public:
  // 0 where the table is full (131,072 objects).
  uint64_t Add(std::shared_ptr<T> object) {
    const std::lock_guard guard(mutex_);
    size_t index = 0;
    while (index < entries_.size() && (entries_[index].object || entries_[index].generation == UINT32_MAX)) ++index;
    if (index == kHandleIndexEnd) return 0;
    if (index == entries_.size()) entries_.emplace_back();
    entries_[index].object = std::move(object);
    return MakeHandle(kKind, ++entries_[index].generation, index);
  }

  // The object, or nullptr where the handle names none.
  std::shared_ptr<T> Find(uint64_t handle) {
    const std::lock_guard guard(mutex_);
    Entry* entry = EntryOf(handle);
    return entry ? entry->object : nullptr;
  }

  // The same, and the handle is over.
  std::shared_ptr<T> Remove(uint64_t handle) {
    const std::lock_guard guard(mutex_);
    Entry* entry = EntryOf(handle);
    return entry ? std::exchange(entry->object, nullptr) : nullptr;
  }

 private:
  struct Entry {
    uint32_t generation = 0;
    std::shared_ptr<T> object;
  };

  Entry* EntryOf(uint64_t handle) {
    const size_t index = HandleIndex(handle);
    if (!IsHandleOf(kKind, handle) || index >= entries_.size() ||
        entries_[index].generation != HandleGeneration(handle))
      return nullptr;
    return &entries_[index];
  }

  std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace volseal
