// Spans of bytes, and numbers in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace volseal {

using Bytes = std::span<const uint8_t>;
using MutableBytes = std::span<uint8_t>;

inline uint64_t LoadLittle64(const uint8_t* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) value = __builtin_bswap64(value);
  return value;
}

inline void StoreLittle64(uint8_t* to, uint64_t value) {
  if constexpr (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) value = __builtin_bswap64(value);
  std::memcpy(to, &value, sizeof value);
}

inline void StoreBig32(uint8_t* to, uint32_t value) {
  if constexpr (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) value = __builtin_bswap32(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace volseal
