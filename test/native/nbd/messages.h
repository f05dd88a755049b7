// What a client sends, built byte by byte, and what it reads in replies.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "nbd/wire.h"

namespace volseal::nbd_test {

using ByteVector = std::vector<uint8_t>;

// Numbers and texts one after another, big-endian.
class Message {
 public:
  Message& U16(uint16_t value) { return Number(value, 2); }
  Message& U32(uint32_t value) { return Number(value, 4); }
  Message& U64(uint64_t value) { return Number(value, 8); }
  Message& Text(std::string_view text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  // A length of 32 bits and the text.
  Message& String(std::string_view text) { return U32(static_cast<uint32_t>(text.size())).Text(text); }
  Message& All(const ByteVector& bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  operator ByteVector() const { return bytes_; }  // NOLINT: meant to convert
  ByteVector bytes() const { return bytes_; }

 private:
  Message& Number(uint64_t value, int count) {
    for (int i = count - 1; i >= 0; i--) bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
    return *this;
  }
  ByteVector bytes_;
};

inline ByteVector ClientFlags(uint32_t flags = 3) { return Message().U32(flags); }

inline ByteVector OptionOf(uint32_t option, const ByteVector& data = {}) {
  return Message().U64(nbd::kOptionMagic).U32(option).U32(static_cast<uint32_t>(data.size())).All(data);
}

inline ByteVector InfoData(std::string_view name, const std::vector<uint16_t>& types = {}) {
  Message message;
  message.String(name).U16(static_cast<uint16_t>(types.size()));
  for (uint16_t type : types) message.U16(type);
  return message;
}

inline ByteVector ContextData(std::string_view name, const std::vector<std::string>& queries) {
  Message message;
  message.String(name).U32(static_cast<uint32_t>(queries.size()));
  for (const std::string& query : queries) message.String(query);
  return message;
}

inline ByteVector RequestOf(uint16_t command, uint64_t offset, uint32_t length, uint16_t flags = 0,
                            uint64_t cookie = 7) {
  return Message().U32(nbd::kRequestMagic).U16(flags).U16(command).U64(cookie).U64(offset).U32(length);
}

struct OptionAnswer {
  uint32_t option;
  uint32_t type;
  ByteVector data;
};

// All option replies in `bytes`, which must hold whole ones only.
inline std::vector<OptionAnswer> OptionAnswers(const ByteVector& bytes) {
  std::vector<OptionAnswer> answers;
  for (size_t at = 0; at < bytes.size();) {
    if (bytes.size() - at < 20 || LoadBig64(&bytes[at]) != nbd::kOptionReplyMagic) return {{0, 0, {}}};
    const uint32_t length = LoadBig32(&bytes[at + 16]);
    if (bytes.size() - at - 20 < length) return {{0, 0, {}}};
    const auto begin = bytes.begin() + static_cast<ptrdiff_t>(at) + 20;
    answers.push_back({LoadBig32(&bytes[at + 8]), LoadBig32(&bytes[at + 12]), {begin, begin + length}});
    at += 20 + length;
  }
  return answers;
}

}  // namespace volseal::nbd_test
