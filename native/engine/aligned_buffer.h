// Buffers that O_DIRECT takes: aligned to a page. Never hold a key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace volseal::engine {

constexpr size_t kBufferBytes = size_t{1} << 20;

struct FreeBuffer {
  void operator()(uint8_t* buffer) const { std::free(buffer); }
};
using AlignedBuffer = std::unique_ptr<uint8_t, FreeBuffer>;

// kBufferBytes, or nullptr where there is no memory.
inline AlignedBuffer NewBuffer() {
  return AlignedBuffer(static_cast<uint8_t*>(std::aligned_alloc(4096, kBufferBytes)));
}

// This thread's buffer, kept from call to call; nullptr where there is no memory.
inline uint8_t* ThreadBuffer() {
  thread_local AlignedBuffer buffer;
  if (!buffer) buffer = NewBuffer();
  return buffer.get();
}

}  // namespace volseal::engine
