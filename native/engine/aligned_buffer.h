// A buffer that O_DIRECT takes: aligned to a page, kept by its thread from call to call. Never holds a key.
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

// This thread's buffer of kBufferBytes, or nullptr where there is no memory.
inline uint8_t* ThreadBuffer() {
  thread_local std::unique_ptr<uint8_t, FreeBuffer> buffer;
  if (!buffer) buffer.reset(static_cast<uint8_t*>(std::aligned_alloc(4096, kBufferBytes)));
  return buffer.get();
}

}  // namespace volseal::engine
