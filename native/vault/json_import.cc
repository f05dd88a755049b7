#include "vault/json_import.h"

#include <algorithm>
#include <string>

#include "base/base64.h"

namespace volseal::vault {
namespace {

// The message's bytes by position, wherever the chunks break.
class Message {
 public:
  explicit Message(std::span<const MutableBytes> chunks) : chunks_(chunks) {
    for (const MutableBytes& chunk : chunks) length_ += chunk.size();
  }
  size_t length() const { return length_; }

  // Positions are asked for nearly in order, so remembering the chunk makes this cheap. 0 past the end.
  uint8_t operator[](size_t position) {
    while (position < chunk_start_) chunk_start_ -= chunks_[--chunk_].size();
    while (chunk_ < chunks_.size() && position - chunk_start_ >= chunks_[chunk_].size()) {
      chunk_start_ += chunks_[chunk_++].size();
    }
    return chunk_ < chunks_.size() ? chunks_[chunk_][position - chunk_start_] : 0;
  }

 private:
  std::span<const MutableBytes> chunks_;
  size_t length_ = 0;
  size_t chunk_ = 0;
  size_t chunk_start_ = 0;
};

constexpr uint32_t kControlCharacter = 0xffffffff;  // what \b, \f, \n, \r, \t stand for: never in a member's name

enum class Case { kExact, kIgnored };

struct Text {
  size_t begin;  // behind the opening quote
  size_t end;    // at the closing one
};

// Finds the member's text in the outermost object. The parser that reads the body afterwards checks the rest of the
// grammar; this scan needs to be right about strings and depth only, and refuses what it cannot follow.
class Scanner {
 public:
  Scanner(Message& message, std::string_view member) : message_(message), member_(member) {}

  // False where the message is not an object, or breaks off.
  bool Scan() {
    SkipSpace();
    if (message_[at_] != '{') return false;
    bool key_expected = false;
    for (int depth = 0; at_ < message_.length();) {
      const uint8_t character = message_[at_];
      if (character == '"') {
        Text text;
        if (!ReadString(text)) return false;
        if (depth == 1 && key_expected) {
          key_expected = false;
          if (Equals(text)) {
            if (!ReadMember()) return false;
          } else if (Equals(text, Case::kIgnored) && !ReadMemberInto(look_alikes_)) {
            return false;
          }
        } else if (depth > 1 && Equals(text) && !ReadMemberInto(inner_texts_)) {
          return false;
        }
        continue;
      }
      ++at_;
      if (character == '{' || character == '[') {
        key_expected = ++depth == 1;
      } else if (character == '}' || character == ']') {
        if (--depth == 0) return OnlySpaceRemains();
      } else if (character == ',') {
        key_expected = depth == 1;
      }
    }
    return false;
  }

  int found() const { return found_; }
  bool is_string() const { return is_string_; }
  Text text() const { return text_; }
  // The texts of members of that name in inner objects, in order.
  const std::vector<Text>& inner_texts() const { return inner_texts_; }
  // The texts of members of the outermost object whose names differ from the member's in case alone.
  const std::vector<Text>& look_alikes() const { return look_alikes_; }

 private:
  void SkipSpace() {
    while (at_ < message_.length() &&
           (message_[at_] == ' ' || message_[at_] == '\t' || message_[at_] == '\n' || message_[at_] == '\r'))
      ++at_;
  }

  bool OnlySpaceRemains() {
    SkipSpace();
    return at_ == message_.length();
  }

  bool ReadString(Text& text) {
    text.begin = ++at_;
    while (at_ < message_.length()) {
      const uint8_t character = message_[at_++];
      if (character == '\\') ++at_;
      if (character == '"') {
        text.end = at_ - 1;
        return true;
      }
    }
    return false;
  }

  // Whether the string reads as the member's name; JSON may spell any character of it as an escape.
  bool Equals(Text text, Case letters = Case::kExact) {
    size_t at = text.begin;
    for (const char expected : member_) {
      if (at >= text.end || In(letters, ReadCharacter(at)) != In(letters, static_cast<uint8_t>(expected))) return false;
    }
    return at == text.end;
  }

  static uint32_t In(Case letters, uint32_t character) {
    return letters == Case::kIgnored && character >= 'A' && character <= 'Z' ? character | 0x20u : character;
  }

  // The character at `at`, which moves behind it: a byte of UTF-8, or what an escape stands for.
  uint32_t ReadCharacter(size_t& at) {
    const uint8_t character = message_[at++];
    if (character != '\\') return character;
    const uint8_t escape = message_[at++];
    if (escape != 'u') return escape == '"' || escape == '\\' || escape == '/' ? escape : kControlCharacter;
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const uint8_t digit = message_[at++];
      const uint32_t letter = (digit | 0x20u) - 'a' + 10;
      code = code << 4 | (digit <= '9' ? digit - '0' : letter);
    }
    return code;
  }

  bool ReadMember() {
    SkipSpace();
    if (message_[at_++] != ':') return false;
    SkipSpace();
    ++found_;
    is_string_ = message_[at_] == '"';
    return !is_string_ || ReadString(text_);
  }

  // The string before may also be a value that reads like the name.
  bool ReadMemberInto(std::vector<Text>& texts) {
    SkipSpace();
    if (message_[at_] != ':') return true;
    ++at_;
    SkipSpace();
    if (message_[at_] != '"') return true;
    texts.emplace_back();
    return ReadString(texts.back());
  }

  Message& message_;
  std::string_view member_;
  size_t at_ = 0;
  int found_ = 0;
  bool is_string_ = false;
  Text text_{};
  std::vector<Text> inner_texts_;
  std::vector<Text> look_alikes_;
};

Status NotBase64(std::string_view member) {
  return Failure(Code::kArgument, "the JSON member " + std::string(member) + " is not base64 text of 1 to 4096 bytes");
}

// JSON may write "/" as "\/".
bool IsEscapeOfSlash(Message& message, size_t at) { return message[at] == '\\' && message[at + 1] == '/'; }

// The message with "A" for each character of the texts, in order, but for their padding.
std::vector<uint8_t> BodyWithout(std::span<const Text> texts, Message& message) {
  std::vector<uint8_t> body;
  body.reserve(message.length());
  for (size_t at = 0; at < message.length(); ++at) {
    while (!texts.empty() && at >= texts.front().end) texts = texts.subspan(1);
    const bool is_redacted = !texts.empty() && at >= texts.front().begin;
    if (is_redacted && IsEscapeOfSlash(message, at)) continue;  // so that it still parses to as many bytes
    body.push_back(is_redacted && message[at] != '=' ? 'A' : message[at]);
  }
  return body;
}

}  // namespace

Result<JsonImport> ImportFromJson(std::span<const MutableBytes> chunks, std::string_view member, Inner inner) {
  Message message(chunks);
  if (message.length() > kJsonBytesMax) return Failure(Code::kArgument, "the JSON message is longer than 1 MiB");
  Scanner scanner(message, member);
  if (!scanner.Scan()) return Failure(Code::kArgument, "the message is not a whole JSON object");
  if (scanner.found() > 1)
    return Failure(Code::kArgument, "the JSON message has the member " + std::string(member) + " twice");
  if (scanner.found() == 1 && !scanner.is_string()) return NotBase64(member);

  JsonImport imported;
  // A mistake in the member's name does not make its text less secret.
  std::vector<Text> redacted = scanner.look_alikes();
  if (inner == Inner::kRedact) {
    redacted.insert(redacted.end(), scanner.inner_texts().begin(), scanner.inner_texts().end());
  }
  if (scanner.found() == 1) {
    const Text text = scanner.text();
    auto slot = Vault::OfProcess().Reserve();
    if (!slot.ok()) return slot.status();
    Base64Decoder decoder(slot.value().data(), kKeyBytesMax);
    for (size_t at = text.begin; at < text.end; ++at) {
      if (!IsEscapeOfSlash(message, at)) decoder.Push(message[at]);
    }
    const std::optional<size_t> length = decoder.Finish();
    if (!length || *length == 0) return NotBase64(member);
    imported.key = slot.value().Commit(*length);
    redacted.push_back(text);
  }
  std::sort(redacted.begin(), redacted.end(), [](Text a, Text b) { return a.begin < b.begin; });
  imported.body = BodyWithout(redacted, message);
  return imported;
}

Result<KeyHandle> ImportBase64(MutableBytes text) {
  auto slot = Vault::OfProcess().Reserve();
  if (!slot.ok()) {
    std::memset(text.data(), 'A', text.size());
    return slot.status();
  }
  Base64Decoder decoder(slot.value().data(), kKeyBytesMax);
  for (uint8_t& character : text) {
    decoder.Push(character);
    character = 'A';
  }
  const std::optional<size_t> length = decoder.Finish();
  if (!length || *length == 0) return Failure(Code::kArgument, "the key is not base64 text of 1 to 4096 bytes");
  return slot.value().Commit(*length);
}

}  // namespace volseal::vault
