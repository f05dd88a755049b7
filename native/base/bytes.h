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

inline void StoreBig16(uint8_t* to, uint16_t value) {
  to[0] = static_cast<uint8_t>(value >> 8);
  to[1] = static_cast<uint8_t>(value);
}

inline void StoreBig64(uint8_t* to, uint64_t value) {
  StoreBig32(to, static_cast<uint32_t>(value >> 32));
  StoreBig32(to + 4, static_cast<uint32_t>(value));
}

inline uint16_t LoadBig16(const uint8_t* from) { return static_cast<uint16_t>(from[0] << 8 | from[1]); }

inline uint32_t LoadBig32(const uint8_t* from) { return uint32_t{LoadBig16(from)} << 16 | LoadBig16(from + 2); }

inline uint64_t LoadBig64(const uint8_t* from) { return uint64_t{LoadBig32(from)} << 32 | LoadBig32(from + 4); }

}  // namespace volseal
