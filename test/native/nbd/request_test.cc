// Requests: how they are read, and which are carried out.
#include "nbd/request.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "messages.h"
#include "nbd/reply.h"

namespace volseal::nbd_test {
namespace {

using namespace nbd;

constexpr uint64_t kSize = uint64_t{1} << 40;
const ExportInfo kVolume = {.name = "", .description = "", .size_bytes = kSize};
const ExportInfo kSparse = {.name = "", .description = "", .size_bytes = kSize, .sparse = true};
const ExportInfo kReadable = {.name = "", .description = "", .size_bytes = kSize, .read_only = true};
const Agreement kNew = {.structured_replies = true, .block_status = true};
const Agreement kOld = {};

Error Check(uint16_t command, uint64_t offset, uint32_t length, uint16_t flags = 0, const ExportInfo& info = kVolume,
            const Agreement& agreement = kNew) {
  return CheckRequest(*ParseRequest(RequestOf(command, offset, length, flags)), info, agreement);
}

TEST_CASE("a request is read field by field") {
  const auto request = ParseRequest(RequestOf(0x0102, 0x1122334455667788, 0x99aabbcc, 0x0304, 0xdeadbeef00000001));
  REQUIRE(request);
  CHECK(request->command == 0x0102);
  CHECK(request->flags == 0x0304);
  CHECK(request->cookie == 0xdeadbeef00000001);
  CHECK(request->offset == 0x1122334455667788);
  CHECK(request->length == 0x99aabbcc);
}

TEST_CASE("a wrong magic number or a short request is none") {
  ByteVector bytes = RequestOf(kRead, 0, 1);
  for (size_t i = 0; i < 4; i++) {
    ByteVector wrong = bytes;
    wrong[i] ^= 1;
    CHECK(!ParseRequest(wrong));
  }
  bytes.pop_back();
  CHECK(!ParseRequest(bytes));
}

TEST_CASE("inside: at the limit, and around every way to overflow") {
  CHECK(IsInside(0, 0, 0));
  CHECK(IsInside(0, 10, 10));
  CHECK(!IsInside(0, 11, 10));
  CHECK(IsInside(10, 0, 10));
  CHECK(!IsInside(11, 0, 10));
  CHECK(IsInside(9, 1, 10));
  CHECK(!IsInside(9, 2, 10));
  CHECK(!IsInside(~uint64_t{0}, 1, 10));
  CHECK(!IsInside(~uint64_t{0}, ~uint64_t{0}, 10));
  CHECK(!IsInside(1, ~uint64_t{0}, 10));
}

TEST_CASE("ranges: the last byte is inside, the next is not") {
  for (uint16_t command : {kRead, kWrite, kWriteZeroes, kCache, kBlockStatus}) {
    const Error outside = command == kWrite || command == kWriteZeroes ? kErrNoSpace : kErrInvalid;
    CHECK(Check(command, kSize - 4096, 4096) == kNoError);
    CHECK(Check(command, kSize - 4096, 4097) == outside);
    CHECK(Check(command, kSize - 1, 1) == kNoError);
    CHECK(Check(command, kSize, 1) == outside);
    CHECK(Check(command, ~uint64_t{0}, 1) == outside);
    CHECK(Check(command, ~uint64_t{0} - 10, 4096) == outside);
  }
}

TEST_CASE("payloads: 32 MiB less one, 32 MiB, one more") {
  for (uint16_t command : {kRead, kWrite}) {
    CHECK(Check(command, 0, kPayloadBytesMax - 1) == kNoError);
    CHECK(Check(command, 0, kPayloadBytesMax) == kNoError);
    CHECK(Check(command, 0, kPayloadBytesMax + 1) == kErrInvalid);
    CHECK(Check(command, 0, ~0u) == kErrInvalid);
  }
  CHECK(Check(kWriteZeroes, 0, ~0u) == kNoError);
  CHECK(Check(kBlockStatus, 0, ~0u) == kNoError);
}

TEST_CASE("FUA is taken on every command, other flags where they belong") {
  for (uint16_t command : {kRead, kWrite, kTrim, kCache, kWriteZeroes, kBlockStatus}) {
    CHECK(Check(command, 0, 512, kFua, kSparse) == kNoError);
    for (int bit = 5; bit < 16; bit++) CHECK(Check(command, 0, 512, uint16_t(1 << bit), kSparse) == kErrInvalid);
    CHECK((Check(command, 0, 512, kDontFragment, kSparse) == kNoError) == (command == kRead));
    CHECK((Check(command, 0, 512, kReqOne, kSparse) == kNoError) == (command == kBlockStatus));
    CHECK((Check(command, 0, 512, kNoHole, kSparse) == kNoError) == (command == kWriteZeroes));
    CHECK((Check(command, 0, 512, kFastZero, kSparse) == kNoError) == (command == kWriteZeroes));
  }
  CHECK(Check(kFlush, 0, 0, kFua) == kNoError);
  CHECK(Check(kFlush, 0, 1) == kErrInvalid);
  CHECK(Check(kFlush, 1, 0) == kErrInvalid);
  CHECK(Check(kRead, 0, 1, kDontFragment, kVolume, kOld) == kErrInvalid);  // never offered
}

TEST_CASE("fast zero: what would take time is refused at once") {
  CHECK(Check(kWriteZeroes, 0, 512, kFastZero, kVolume) == kErrNotSupported);
  CHECK(Check(kWriteZeroes, 0, 512, kFastZero | kNoHole, kSparse) == kErrNotSupported);
  CHECK(Check(kWriteZeroes, 0, 512, kFastZero, kSparse) == kNoError);
}

TEST_CASE("read-only exports refuse every change") {
  for (uint16_t command : {kWrite, kTrim, kWriteZeroes}) CHECK(Check(command, 0, 1, 0, kReadable) == kErrPermission);
  for (uint16_t command : {kRead, kCache, kBlockStatus}) CHECK(Check(command, 0, 1, 0, kReadable) == kNoError);
}

TEST_CASE("what was not agreed is not done") {
  CHECK(Check(kTrim, 0, 512, 0, kVolume) == kErrInvalid);
  CHECK(Check(kTrim, 0, 512, 0, kSparse) == kNoError);
  CHECK(Check(kBlockStatus, 0, 512, 0, kVolume, kOld) == kErrInvalid);
  CHECK(Check(kBlockStatus, 0, 0) == kErrInvalid);
  for (uint32_t command = 8; command < 70'000; command += 13) CHECK(Check(uint16_t(command | 8), 0, 0) == kErrInvalid);
}

TEST_CASE("replies, byte by byte") {
  uint8_t to[64];
  const auto text = [&](size_t length) { return ByteVector(to, to + length); };
  CHECK(text(PutSimpleReply(to, kErrIo, 0x0102030405060708)) ==
        Message().U32(0x67446698).U32(5).U64(0x0102030405060708).bytes());
  CHECK(text(PutDataChunk(to, 9, 4096, 512, true)) ==
        Message().U32(0x668e33ef).U16(1).U16(1).U64(9).U32(520).U64(4096).bytes());
  CHECK(text(PutDataChunk(to, 9, 4096, 512, false)) ==
        Message().U32(0x668e33ef).U16(0).U16(1).U64(9).U32(520).U64(4096).bytes());
  CHECK(text(PutNoneChunk(to, 9)) == Message().U32(0x668e33ef).U16(1).U16(0).U64(9).U32(0).bytes());
  CHECK(text(PutErrorChunk(to, 9, kErrNoSpace)) ==
        Message().U32(0x668e33ef).U16(1).U16(0x8001).U64(9).U32(6).U32(28).U16(0).bytes());
}

TEST_CASE("block status: pieces end with the request, and the first is enough for one") {
  const std::vector<engine::BlockStatus> extents = {{0, 4096, false}, {4096, uint64_t{1} << 40, true}};
  const auto header = [](uint32_t length) {
    return Message().U32(0x668e33ef).U16(1).U16(5).U64(9).U32(length).U32(kAllocationContextId).bytes();
  };
  CHECK(BlockStatusReply(9, extents, 10'000, false) ==
        Message().All(header(20)).U32(4096).U32(0).U32(10'000 - 4096).U32(3).bytes());
  CHECK(BlockStatusReply(9, extents, 10'000, true) == Message().All(header(12)).U32(4096).U32(0).bytes());
  CHECK(BlockStatusReply(9, extents, 4096, false) == Message().All(header(12)).U32(4096).U32(0).bytes());
  const std::vector<engine::BlockStatus> hole = {{0, uint64_t{1} << 40, true}};
  CHECK(BlockStatusReply(9, hole, ~0u, false) == Message().All(header(12)).U32(~0u).U32(3).bytes());
}

TEST_CASE("failures of the engine become errors of the protocol") {
  CHECK(ErrorOf(Ok()) == kNoError);
  CHECK(ErrorOf(SystemFailure(ENOSPC, "pwrite")) == kErrNoSpace);
  CHECK(ErrorOf(SystemFailure(EIO, "pwrite")) == kErrIo);
  CHECK(ErrorOf(SystemFailure(ENOMEM, "pwrite")) == kErrNoMemory);
  CHECK(ErrorOf(Failure(Code::kPoisoned, "")) == kErrIo);
  CHECK(ErrorOf(Failure(Code::kDetached, "")) == kErrShutdown);
  CHECK(ErrorOf(Failure(Code::kKeyGone, "")) == kErrShutdown);
  CHECK(ErrorOf(Failure(Code::kReadOnly, "")) == kErrPermission);
}

}  // namespace
}  // namespace volseal::nbd_test
