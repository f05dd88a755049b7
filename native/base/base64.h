// Standard base64 (RFC 4648, section 4), with padding, without tables and branches on the text: the text is a key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace volseal {

// Length of the text for `byte_count` bytes, padding included.
constexpr size_t Base64TextLength(size_t byte_count) { return (byte_count + 2) / 3 * 4; }

// Writes the text of `bytes` to `text`, which has Base64TextLength(bytes.size()) characters.
void Base64Encode(Bytes bytes, uint8_t* text);

// Decodes base64 character by character, so that the text need not lie in one piece.
class Base64Decoder {
 public:
  // Bytes go to `target`, at most `capacity` of them.
  Base64Decoder(uint8_t* target, size_t capacity) : target_(target), capacity_(capacity) {}
  ~Base64Decoder();
  void Push(uint8_t character);
  // The byte count, or nothing where the text was not canonical base64 (alphabet, padding, unused bits) or did not fit.
  std::optional<size_t> Finish();

 private:
  uint8_t* target_;
  size_t capacity_;
  size_t length_ = 0;
  uint32_t group_ = 0;
  unsigned characters_ = 0;  // of the group
  unsigned padding_ = 0;
  uint32_t bad_ = 0;
};

}  // namespace volseal
