// Buffers that O_DIRECT takes, in huge pages where the system has them to give. Never hold a key.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace volseal::engine {

// What is read, transformed or written at a time.
constexpr size_t kBufferBytes = size_t{1} << 20;
// Of x86-64, and of Arm with pages of 4 KiB: room for two.
constexpr size_t kHugePageBytes = size_t{2} << 20;

struct FreeBuffer {
  void operator()(uint8_t* buffer) const { std::free(buffer); }
};
using AlignedBuffer = std::unique_ptr<uint8_t, FreeBuffer>;

// kBufferBytes, or nullptr where there is no memory. In a huge page of its own: to the disk it is then one range of
// memory and not 256, which a virtual disk may have to take in several requests. Without one it is as good as any
// other.
inline AlignedBuffer NewBuffer() {
  AlignedBuffer buffer(static_cast<uint8_t*>(std::aligned_alloc(kHugePageBytes, kHugePageBytes)));
  if (buffer) static_cast<void>(madvise(buffer.get(), kHugePageBytes, MADV_HUGEPAGE));
  return buffer;
}

// This thread's buffer of kBufferBytes, kept from call to call; nullptr where there is no memory.
inline uint8_t* ThreadBuffer() {
  thread_local AlignedBuffer buffer;
  if (!buffer) buffer = NewBuffer();
  return buffer.get();
}

}  // namespace volseal::engine
