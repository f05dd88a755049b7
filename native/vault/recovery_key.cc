#include "vault/recovery_key.h"

#include <poll.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>

#include "base/wipe.h"
#include "vault/hash.h"

namespace volseal::vault {
namespace {

constexpr char kLetters[] = "cbdefghijklnrtuv";
constexpr char kLabel[] = "volseal recovery key v1";
constexpr size_t kChecksumBytes = 4;
constexpr size_t kBytes = kRecoveryKeyBytes + kChecksumBytes;
constexpr size_t kGroupLetters = 8;
static_assert(kRecoveryTextBytes == 2 * kBytes + 2 * kBytes / kGroupLetters - 1);

struct TextScratch {
  uint8_t file[kPassphraseBytesMax + 1];  // one more than may be there
  uint8_t bytes[kBytes];                  // the key, and the checksum that its text has
  uint8_t digest[Sha256::kDigestBytes];
  SHA256_CTX state;
};

// 0xff where `a` is `b`, else 0; both below 256.
uint8_t EqualMask(uint32_t a, uint32_t b) { return static_cast<uint8_t>(((a ^ b) - 1) >> 24); }

// Every letter is looked at, so that neither time nor addresses tell which one it is.
uint8_t LetterOf(uint8_t value) {
  uint8_t letter = 0;
  for (uint32_t i = 0; i < 16; ++i) letter |= EqualMask(value, i) & static_cast<uint8_t>(kLetters[i]);
  return letter;
}

// The value of a letter in any case; `known` becomes 0 where it is none.
uint8_t ValueOf(uint8_t letter, uint8_t& known) {
  uint8_t value = 0;
  uint8_t found = 0;
  for (uint32_t i = 0; i < 16; ++i) {
    const uint8_t mask = EqualMask(letter | 0x20, static_cast<uint8_t>(kLetters[i]));
    value |= mask & static_cast<uint8_t>(i);
    found |= mask;
  }
  known &= found;
  return value;
}

void ComputeChecksum(TextScratch& scratch) {
  Sha256::Init(scratch.state);
  Sha256::Update(scratch.state, {reinterpret_cast<const uint8_t*>(kLabel), sizeof kLabel - 1});
  Sha256::Update(scratch.state, {scratch.bytes, kRecoveryKeyBytes});
  Sha256::Final(scratch.state, scratch.digest);
}

void WriteText(const uint8_t bytes[kBytes], uint8_t text[kRecoveryTextBytes]) {
  for (size_t i = 0; i < 2 * kBytes; ++i) {
    if (i > 0 && i % kGroupLetters == 0) *text++ = '-';
    *text++ = LetterOf(i % 2 == 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15);
  }
}

bool IsSeparator(uint8_t character) {
  return character == '-' || character == ' ' || (character >= '\t' && character <= '\r');
}

// Reads the text into scratch.bytes, and checks it.
Status ParseText(Bytes text, TextScratch& scratch) {
  size_t letters = 0;
  uint8_t known = 0xff;
  for (const uint8_t character : text) {
    if (IsSeparator(character)) continue;
    if (letters < 2 * kBytes) {
      const uint8_t value = ValueOf(character, known);
      uint8_t& byte = scratch.bytes[letters / 2];
      byte = static_cast<uint8_t>(letters % 2 == 0 ? value << 4 : byte | value);
    }
    ++letters;
  }
  if (letters != 2 * kBytes) {
    return Failure(Code::kArgument, "is no recovery key: it has " + std::to_string(letters) +
                                        " letters instead of 72 (nine groups of eight)");
  }
  if (known == 0) {
    return Failure(Code::kArgument, std::string("is no recovery key: its letters are not all of ") + kLetters);
  }
  ComputeChecksum(scratch);
  uint8_t difference = 0;
  for (size_t i = 0; i < kChecksumBytes; ++i) difference |= scratch.digest[i] ^ scratch.bytes[kRecoveryKeyBytes + i];
  if (difference == 0) return Ok();
  return Failure(Code::kArgument,
                 "is a mistyped recovery key: its last group, the checksum, does not match the others");
}

// How long the writer of a pipe may pause in the middle of what it writes.
constexpr int kPauseMillisecondsMax = 10'000;

// The bytes of `fd` up to its end. kArgument where there are more than fit; kIo with EAGAIN where a pipe that does not
// block has no first byte yet, and with ETIMEDOUT where one stops in the middle.
Result<size_t> ReadToEnd(int fd, TextScratch& scratch) {
  size_t length = 0;
  while (length < sizeof scratch.file) {
    const ssize_t count = read(fd, scratch.file + length, sizeof scratch.file - length);
    if (count == 0) return length;
    if (count < 0 && errno == EAGAIN && length > 0) {
      pollfd waiting = {fd, POLLIN, 0};
      if (poll(&waiting, 1, kPauseMillisecondsMax) == 0) return SystemFailure(ETIMEDOUT, "read", length);
      continue;
    }
    if (count < 0 && errno != EINTR) return SystemFailure(errno, "read", length);
    if (count > 0) length += static_cast<size_t>(count);
  }
  return Failure(Code::kArgument, "has more than " + std::to_string(kPassphraseBytesMax) + " bytes");
}

Status WriteAll(int fd, Bytes bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = write(fd, bytes.data() + done, bytes.size() - done);
    if (count >= 0) {
      done += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      pollfd waiting = {fd, POLLOUT, 0};
      poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return SystemFailure(errno, "write", done);
    }
  }
  return Ok();
}

// A new vault key: `fill` writes its text and says how long it is.
template <typename Fill>
Result<KeyHandle> MakeText(Fill fill) {
  auto reserved = Vault::OfProcess().Reserve();
  if (!reserved.ok()) return reserved.status();
  auto made = Vault::OfProcess().Reserve();
  if (!made.ok()) return made.status();
  Result<size_t> length = fill(reserved.value().As<TextScratch>(), made.value().data());
  WipeUsedStack();
  if (!length.ok()) return length.status();
  return made.value().Commit(length.value());
}

}  // namespace

Result<KeyHandle> GenerateRecoveryKey() {
  return MakeText([](TextScratch& scratch, uint8_t* text) -> Result<size_t> {
    // getrandom(2) is not interrupted for so few bytes, once the pool is ready.
    while (getrandom(scratch.bytes, kRecoveryKeyBytes, 0) != static_cast<ssize_t>(kRecoveryKeyBytes)) {
      if (errno != EINTR) return SystemFailure(errno, "getrandom");
    }
    ComputeChecksum(scratch);
    std::memcpy(scratch.bytes + kRecoveryKeyBytes, scratch.digest, kChecksumBytes);
    WriteText(scratch.bytes, text);
    return kRecoveryTextBytes;
  });
}

Result<KeyHandle> ReadRecoveryKey(int fd) {
  return MakeText([fd](TextScratch& scratch, uint8_t* text) -> Result<size_t> {
    auto length = ReadToEnd(fd, scratch);
    if (!length.ok()) return length;
    if (Status status = ParseText({scratch.file, length.value()}, scratch); !status.ok()) return status;
    WriteText(scratch.bytes, text);
    return kRecoveryTextBytes;
  });
}

Result<KeyHandle> ReadPassphrase(int fd) {
  return MakeText([fd](TextScratch& scratch, uint8_t* text) -> Result<size_t> {
    auto read = ReadToEnd(fd, scratch);
    if (!read.ok()) return read;
    size_t length = read.value();
    if (length > 0 && scratch.file[length - 1] == '\n') --length;
    if (length == 0) return Failure(Code::kArgument, "is empty: a passphrase has 1 to 512 bytes");
    std::memcpy(text, scratch.file, length);
    return length;
  });
}

Status WriteRecoveryKey(int fd, Bytes text) {
  auto reserved = Vault::OfProcess().Reserve();
  if (!reserved.ok()) return reserved.status();
  if (text.size() != kRecoveryTextBytes || !ParseText(text, reserved.value().As<TextScratch>()).ok()) {
    return Failure(Code::kArgument, "the key is no recovery key: nothing else is written out");
  }
  return WriteAll(fd, text);
}

Status WriteVolumeKey(int fd, Bytes key) {
  if (isatty(fd)) return Failure(Code::kArgument, "a volume key is never written to a terminal");
  return WriteAll(fd, key);
}

}  // namespace volseal::vault
