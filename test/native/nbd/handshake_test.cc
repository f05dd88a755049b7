// The handshake, byte by byte, with the limits that other servers got wrong.
#include "nbd/handshake.h"

#include <doctest/doctest.h>

#include "messages.h"

namespace volseal::nbd_test {
namespace {

using nbd::Handshake;
using State = Handshake::State;

const std::vector<nbd::ExportInfo> kExports = {
    {.name = "", .description = "vol-1", .size_bytes = 1 << 20},
    {.name = "data", .description = "", .size_bytes = 4096 * 3, .sector_bytes = 4096, .read_only = true},
    {.name = "thin", .description = "vol-3", .size_bytes = 8192, .sector_bytes = 4096, .sparse = true},
};

// Gives all of `bytes`, `step` at a time, as a connection does; returns the replies.
ByteVector Give(Handshake& handshake, const ByteVector& bytes, size_t step = SIZE_MAX) {
  ByteVector replies;
  for (size_t at = 0; at < bytes.size() && handshake.state() == State::kGoesOn;) {
    Bytes piece = Bytes(bytes).subspan(at, std::min(step, bytes.size() - at));
    at += piece.size();
    while (!piece.empty() && handshake.state() == State::kGoesOn)
      piece = piece.subspan(handshake.Receive(piece, replies));
  }
  return replies;
}

ByteVector GiveOption(Handshake& handshake, uint32_t option, const ByteVector& data = {}) {
  return Give(handshake, OptionOf(option, data));
}

struct Begun : Handshake {
  explicit Begun(bool tls = false, uint32_t flags = 3) : Handshake(kExports, tls) { Give(*this, ClientFlags(flags)); }
};

uint32_t OnlyType(const ByteVector& replies) {
  const auto answers = OptionAnswers(replies);
  return answers.size() == 1 ? answers[0].type : 0;
}

constexpr uint16_t kWritable = nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua | nbd::kSendWriteZeroes |
                               nbd::kCanMultiConn | nbd::kSendCache | nbd::kSendFastZero;

TEST_CASE("a server greets with its magic numbers and flags") {
  ByteVector greeting;
  Handshake(kExports, false).Greet(greeting);
  CHECK(greeting == Message().Text("NBDMAGICIHAVEOPT").U16(3).bytes());
}

TEST_CASE("client flags: known ones are taken, others end the connection") {
  for (uint32_t flags : {0u, 1u, 2u, 3u}) CHECK(Begun(false, flags).state() == State::kGoesOn);
  for (uint32_t flags : {4u, 0x80000001u, ~0u}) CHECK(Begun(false, flags).state() == State::kClosed);
}

TEST_CASE("export name: size and flags, 124 zeros unless the client wants none") {
  for (bool zeros : {false, true}) {
    Begun handshake(false, zeros ? 1 : 3);
    Message expected;
    expected.U64(1 << 20).U16(kWritable);
    if (zeros) expected.All(ByteVector(124));
    CHECK(GiveOption(handshake, nbd::kOptExportName) == expected.bytes());
    CHECK(handshake.state() == State::kTransmission);
    CHECK(handshake.agreement().export_index == 0);
    CHECK(!handshake.agreement().structured_replies);
  }
}

TEST_CASE("export name: an unknown one ends the connection without a byte") {
  Begun handshake;
  CHECK(GiveOption(handshake, nbd::kOptExportName, Message().Text("nothing")).empty());
  CHECK(handshake.state() == State::kClosed);
}

TEST_CASE("export name: 4095 and 4096 bytes are read, 4097 are not") {
  for (size_t length : {4095, 4096}) {
    const std::vector<nbd::ExportInfo> exports = {{.name = std::string(length, 'n'), .size_bytes = 512}};
    Handshake handshake(exports, false);
    Give(handshake, ClientFlags());
    CHECK(GiveOption(handshake, nbd::kOptExportName, ByteVector(length, 'n')).size() == 10);
    CHECK(handshake.state() == State::kTransmission);
  }
  Begun handshake;
  // The header alone: not one byte of the name is waited for.
  Give(handshake, Message().U64(nbd::kOptionMagic).U32(nbd::kOptExportName).U32(4097));
  CHECK(handshake.state() == State::kClosed);
}

TEST_CASE("names inside options: 4096 bytes are a name, 4097 are malformed") {
  for (uint32_t option : {nbd::kOptInfo, nbd::kOptGo}) {
    for (size_t length : {4095, 4096, 4097}) {
      Begun handshake;
      const ByteVector replies = GiveOption(handshake, option, InfoData(std::string(length, 'x')));
      CHECK(OnlyType(replies) == (length <= 4096 ? nbd::kRepErrUnknown : nbd::kRepErrInvalid));
      CHECK(replies.size() < 200);  // the name is not in it
    }
  }
  for (size_t length : {4095, 4096, 4097}) {
    Begun handshake;
    GiveOption(handshake, nbd::kOptStructuredReply);
    const ByteVector replies =
        GiveOption(handshake, nbd::kOptSetMetaContext, ContextData("", {std::string(length, 'q')}));
    CHECK(OnlyType(replies) == (length <= 4096 ? nbd::kRepAck : nbd::kRepErrInvalid));
  }
}

TEST_CASE("long options: kept up to the limit, dropped above it, and beyond all reason the client is") {
  for (uint32_t length : {nbd::kOptionBytesKept - 1, nbd::kOptionBytesKept, nbd::kOptionBytesKept + 1,
                          nbd::kOptionBytesDropped - 1, nbd::kOptionBytesDropped}) {
    Begun handshake;
    const ByteVector replies = Give(handshake, OptionOf(77, ByteVector(length)), 10'000);
    CHECK(OnlyType(replies) == (length <= nbd::kOptionBytesKept ? nbd::kRepErrUnsupported : nbd::kRepErrTooBig));
    CHECK(OnlyType(GiveOption(handshake, nbd::kOptStructuredReply)) == nbd::kRepAck);  // still in step
  }
  for (uint32_t length : {nbd::kOptionBytesDropped + 1, ~0u}) {
    Begun handshake;
    Give(handshake, Message().U64(nbd::kOptionMagic).U32(77).U32(length));
    CHECK(handshake.state() == State::kClosed);
  }
}

TEST_CASE("so many options are answered, and not one more") {
  Begun handshake;
  for (unsigned i = 0; i < nbd::kOptionsMax; i++) CHECK(OnlyType(GiveOption(handshake, 99)) == nbd::kRepErrUnsupported);
  CHECK(GiveOption(handshake, 99).empty());
  CHECK(handshake.state() == State::kClosed);
}

TEST_CASE("a wrong magic number ends the connection") {
  Begun handshake;
  Give(handshake, Message().U64(nbd::kOptionMagic + 1).U32(nbd::kOptList).U32(0));
  CHECK(handshake.state() == State::kClosed);
}

TEST_CASE("an old client may choose an export and nothing else") {
  Begun handshake(false, 0);
  GiveOption(handshake, nbd::kOptList);
  CHECK(handshake.state() == State::kClosed);
}

TEST_CASE("list: every export with its description, and no data is taken") {
  Begun handshake;
  const auto answers = OptionAnswers(GiveOption(handshake, nbd::kOptList));
  REQUIRE(answers.size() == 4);
  CHECK(answers[0].data == Message().String("").Text("vol-1").bytes());
  CHECK(answers[1].data == Message().String("data").bytes());
  CHECK(answers[3].type == nbd::kRepAck);
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptList, ByteVector(1))) == nbd::kRepErrInvalid);
}

TEST_CASE("info tells, go goes") {
  for (uint32_t option : {nbd::kOptInfo, nbd::kOptGo}) {
    Begun handshake;
    const auto answers =
        OptionAnswers(GiveOption(handshake, option, InfoData("data", {nbd::kInfoBlockSize, nbd::kInfoName, 99})));
    REQUIRE(answers.size() == 4);
    const uint16_t flags =
        nbd::kHasFlags | nbd::kReadOnly | nbd::kSendFlush | nbd::kSendFua | nbd::kCanMultiConn | nbd::kSendCache;
    CHECK(answers[0].data == Message().U16(nbd::kInfoExport).U64(4096 * 3).U16(flags).bytes());
    CHECK(answers[1].data == Message().U16(nbd::kInfoName).Text("data").bytes());
    CHECK(answers[2].data == Message().U16(nbd::kInfoBlockSize).U32(1).U32(4096).U32(32 << 20).bytes());
    CHECK(answers[3].type == nbd::kRepAck);
    CHECK(answers[3].option == option);
    CHECK(handshake.state() == (option == nbd::kOptGo ? State::kTransmission : State::kGoesOn));
  }
}

TEST_CASE("go: trim is offered where it does something, DF to whom knows structured replies") {
  Begun handshake;
  GiveOption(handshake, nbd::kOptStructuredReply);
  const auto answers = OptionAnswers(GiveOption(handshake, nbd::kOptGo, InfoData("thin", {nbd::kInfoDescription})));
  REQUIRE(answers.size() == 3);
  CHECK(LoadBig16(&answers[0].data[10]) == (kWritable | nbd::kSendTrim | nbd::kSendDf));
  CHECK(answers[1].data == Message().U16(nbd::kInfoDescription).Text("vol-3").bytes());
  CHECK(handshake.agreement().structured_replies);
}

TEST_CASE("info: data that is cut anywhere, or goes on, is malformed") {
  const ByteVector whole = InfoData("data", {nbd::kInfoName, nbd::kInfoBlockSize});
  for (size_t length = 0; length < whole.size(); length++) {
    Begun handshake;
    CHECK(OnlyType(GiveOption(handshake, nbd::kOptGo,
                              {whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)})) == nbd::kRepErrInvalid);
    CHECK(handshake.state() == State::kGoesOn);
  }
  Begun handshake;
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptGo, Message().All(whole).U16(0))) == nbd::kRepErrInvalid);
  // A name longer than the data, by its own word.
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptGo, Message().U32(~0u).Text("x").U16(0))) == nbd::kRepErrInvalid);
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptGo, Message().String("").U16(65535))) == nbd::kRepErrInvalid);
}

TEST_CASE("meta contexts: base:allocation is listed, set, and forgotten by the next set") {
  Begun handshake;
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptSetMetaContext, ContextData("", {"base:allocation"}))) ==
        nbd::kRepErrInvalid);  // structured replies come first
  GiveOption(handshake, nbd::kOptStructuredReply);
  for (const auto& queries :
       std::vector<std::vector<std::string>>{{}, {"base:"}, {"base:allocation"}, {"x:", "base:"}}) {
    const auto answers = OptionAnswers(GiveOption(handshake, nbd::kOptListMetaContext, ContextData("", queries)));
    REQUIRE(answers.size() == 2);
    CHECK(answers[0].data == Message().U32(0).Text("base:allocation").bytes());
  }
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptListMetaContext, ContextData("", {"qemu:"}))) == nbd::kRepAck);
  const auto set = OptionAnswers(
      GiveOption(handshake, nbd::kOptSetMetaContext, ContextData("thin", {"base:allocation", "base:allocation"})));
  REQUIRE(set.size() == 2);
  CHECK(set[0].data == Message().U32(nbd::kAllocationContextId).Text("base:allocation").bytes());

  SUBCASE("chosen for the export that is used") {
    GiveOption(handshake, nbd::kOptGo, InfoData("thin"));
    CHECK(handshake.agreement().block_status);
  }
  SUBCASE("not for another") {
    GiveOption(handshake, nbd::kOptGo, InfoData(""));
    CHECK(!handshake.agreement().block_status);
  }
  SUBCASE("a set of nothing unsets") {
    CHECK(OnlyType(GiveOption(handshake, nbd::kOptSetMetaContext, ContextData("thin", {}))) == nbd::kRepAck);
    GiveOption(handshake, nbd::kOptGo, InfoData("thin"));
    CHECK(!handshake.agreement().block_status);
  }
  SUBCASE("so does one that fails") {
    CHECK(OnlyType(GiveOption(handshake, nbd::kOptSetMetaContext, ContextData("?", {}))) == nbd::kRepErrUnknown);
    GiveOption(handshake, nbd::kOptGo, InfoData("thin"));
    CHECK(!handshake.agreement().block_status);
  }
  SUBCASE("more queries than there is data for") {
    CHECK(OnlyType(GiveOption(handshake, nbd::kOptSetMetaContext, Message().String("thin").U32(~0u))) ==
          nbd::kRepErrInvalid);
  }
}

TEST_CASE("abort is acknowledged, and ends the connection") {
  Begun handshake(true);
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptAbort)) == nbd::kRepAck);
  CHECK(handshake.state() == State::kClosed);
}

TEST_CASE("TLS: before it nothing else is answered, and nothing of before counts") {
  Begun handshake(true);
  for (uint32_t option : {nbd::kOptList, nbd::kOptInfo, nbd::kOptGo, nbd::kOptStructuredReply, nbd::kOptSetMetaContext,
                          nbd::kOptListMetaContext}) {
    CHECK(OnlyType(GiveOption(handshake, option, InfoData(""))) == nbd::kRepErrTlsRequired);
  }
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptStartTls, ByteVector(1))) == nbd::kRepErrInvalid);
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptStartTls)) == nbd::kRepAck);
  REQUIRE(handshake.state() == State::kStartTls);
  handshake.TlsStarted();
  CHECK(OnlyType(GiveOption(handshake, nbd::kOptStartTls)) == nbd::kRepErrInvalid);  // once
  GiveOption(handshake, nbd::kOptGo, InfoData(""));
  CHECK(handshake.state() == State::kTransmission);
  CHECK(!handshake.agreement().structured_replies);
}

TEST_CASE("TLS: what comes with the option is not taken") {
  Begun handshake(true);
  ByteVector replies;
  const ByteVector both = Message().All(OptionOf(nbd::kOptStartTls)).All(OptionOf(nbd::kOptGo, InfoData("")));
  CHECK(handshake.Receive(both, replies) == 16);
  CHECK(handshake.state() == State::kStartTls);
  CHECK(handshake.Receive(Bytes(both).subspan(16), replies) == 0);
}

TEST_CASE("TLS: no export by its name without it; refused where there is none") {
  Begun required(true);
  CHECK(GiveOption(required, nbd::kOptExportName).empty());
  CHECK(required.state() == State::kClosed);
  Begun none(false);
  CHECK(OnlyType(GiveOption(none, nbd::kOptStartTls)) == nbd::kRepErrPolicy);
}

TEST_CASE("how the bytes are cut makes no difference") {
  const ByteVector all = Message()
                             .All(ClientFlags())
                             .All(OptionOf(nbd::kOptStructuredReply))
                             .All(OptionOf(nbd::kOptList))
                             .All(OptionOf(nbd::kOptSetMetaContext, ContextData("thin", {"base:allocation"})))
                             .All(OptionOf(500, ByteVector(100)))
                             .All(OptionOf(nbd::kOptGo, InfoData("thin", {nbd::kInfoBlockSize})));
  Handshake whole(kExports, false);
  const ByteVector expected = Give(whole, all);
  REQUIRE(whole.state() == State::kTransmission);
  for (size_t step = 1; step < 60; step++) {
    Handshake handshake(kExports, false);
    CHECK(Give(handshake, all, step) == expected);
    CHECK(handshake.state() == State::kTransmission);
    CHECK(handshake.agreement().block_status);
  }
}

TEST_CASE("one option at a time: replies are sent before the next is looked at") {
  Begun handshake;
  const ByteVector two = Message().All(OptionOf(nbd::kOptList)).All(OptionOf(nbd::kOptList));
  ByteVector replies;
  CHECK(handshake.Receive(two, replies) == 16);
}

}  // namespace
}  // namespace volseal::nbd_test
