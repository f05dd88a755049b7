#include "base/base64.h"

#include "base/wipe.h"

namespace volseal {
namespace {

// All ones where low <= value <= high, else 0, without a branch; all three below 2^31. The sign bit of either
// difference is set where the value lies outside.
constexpr uint32_t InRange(uint32_t value, uint32_t low, uint32_t high) {
  return (((value - low) | (high - value)) >> 31) - 1;
}

constexpr uint8_t CharacterOf(uint32_t six_bits) {
  return static_cast<uint8_t>((InRange(six_bits, 0, 25) & (six_bits + 'A')) |
                              (InRange(six_bits, 26, 51) & (six_bits - 26 + 'a')) |
                              (InRange(six_bits, 52, 61) & (six_bits - 52 + '0')) | (InRange(six_bits, 62, 62) & '+') |
                              (InRange(six_bits, 63, 63) & '/'));
}

// The six bits of a character, or 64 and more where it is none of the alphabet.
constexpr uint32_t SixBitsOf(uint32_t character) {
  const uint32_t upper = InRange(character, 'A', 'Z'), lower = InRange(character, 'a', 'z'),
                 digit = InRange(character, '0', '9'), plus = InRange(character, '+', '+'),
                 slash = InRange(character, '/', '/');
  return (upper & (character - 'A')) | (lower & (character - 'a' + 26)) | (digit & (character - '0' + 52)) |
         (plus & 62) | (slash & 63) | (~(upper | lower | digit | plus | slash) & 64);
}

static_assert(SixBitsOf('/') == 63 && SixBitsOf('Z') == 25 && SixBitsOf('=') == 64 && CharacterOf(62) == '+');

}  // namespace

void Base64Encode(Bytes bytes, uint8_t* text) {
  size_t at = 0;
  for (; at + 3 <= bytes.size(); at += 3) {
    const uint32_t group = bytes[at] << 16 | bytes[at + 1] << 8 | bytes[at + 2];
    for (int shift = 18; shift >= 0; shift -= 6) *text++ = CharacterOf(group >> shift & 63);
  }
  const size_t rest = bytes.size() - at;
  if (rest == 0) return;
  const uint32_t group = bytes[at] << 16 | (rest == 2 ? bytes[at + 1] << 8 : 0);
  *text++ = CharacterOf(group >> 18 & 63);
  *text++ = CharacterOf(group >> 12 & 63);
  *text++ = rest == 2 ? CharacterOf(group >> 6 & 63) : '=';
  *text = '=';
}

Base64Decoder::~Base64Decoder() { Wipe(&group_, sizeof group_); }

void Base64Decoder::Push(uint8_t character) {
  if (character == '=') {  // padding is no secret: it tells the length, as the text's length does
    ++padding_;
    return;
  }
  const uint32_t bits = SixBitsOf(character);
  bad_ |= bits >> 6 | padding_;
  group_ = group_ << 6 | (bits & 63);
  if (++characters_ < 4) return;
  if (length_ + 3 > capacity_) {
    bad_ = 1;
  } else {
    for (int shift = 16; shift >= 0; shift -= 8) target_[length_++] = static_cast<uint8_t>(group_ >> shift);
  }
  group_ = characters_ = 0;
}

std::optional<size_t> Base64Decoder::Finish() {
  // 2 characters and "==" carry one byte and 4 unused bits; 3 and "=" carry two bytes and 2 unused bits.
  const unsigned expected_padding = characters_ == 0 ? 0 : 4 - characters_;
  if (characters_ == 1 || padding_ != expected_padding) bad_ = 1;
  if (characters_ >= 2) {
    const unsigned tail_bytes = characters_ - 1, unused_bits = characters_ == 2 ? 4 : 2;
    bad_ |= group_ & ((1u << unused_bits) - 1);
    if (length_ + tail_bytes > capacity_) {
      bad_ = 1;
    } else {
      const uint32_t tail = group_ >> unused_bits;
      if (tail_bytes == 2) target_[length_++] = static_cast<uint8_t>(tail >> 8);
      target_[length_++] = static_cast<uint8_t>(tail);
    }
  }
  if (bad_ != 0) return std::nullopt;
  return length_;
}

}  // namespace volseal
