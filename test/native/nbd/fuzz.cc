// A hostile client, by libFuzzer: test/fuzz/nbd.test.ts builds and runs it.
//
// The input's first byte says how the server is, the second into what pieces the rest is cut, which is what the client
// sends from its flags on. Whatever it is, the server answers within its share of memory and lets go of everything.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "memory_volume.h"
#include "nbd/handshake.h"
#include "nbd/transmission.h"

namespace {

using namespace volseal;
using State = nbd::Handshake::State;

constexpr size_t kVolumeBytes = (1 << 20) + (256 << 10);
// Replies of the handshake that wait to be sent at once: one option's.
constexpr size_t kRepliesMax = 64 << 10;

void Check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

void Transmit(const nbd::ExportInfo& info, const nbd::Agreement& agreement, bool at_once, Bytes bytes, size_t step) {
  nbd_test::MemoryVolume volume(info.size_bytes);
  volume.at_once = at_once;
  nbd::Counters counters;
  nbd::Transmission transmission(
      info, agreement, volume, counters, [] {}, [](const Status&) {});
  size_t given = 0;
  for (size_t round = 0; !transmission.broken() && round < 100'000; round++) {
    const MutableBytes space = transmission.ReceiveSpace();
    const size_t count = std::min({space.size(), bytes.size() - given, step});
    if (count > 0) std::memcpy(space.data(), bytes.data() + given, count);
    given += count;
    transmission.Received(count);
    transmission.Work();
    Check(transmission.output().length() <= nbd::kShareBytes + (1 << 20), "replies beyond the share");
    // In no order, and not at once.
    if (!volume.waiting.empty()) volume.Perform(round % volume.waiting.size());
    if (transmission.output().length() > 0 && round % 3 != 0) {
      iovec vector = {};
      transmission.output().Gather(&vector, 1);
      transmission.output().Sent(vector.iov_len);
    }
    if (given == bytes.size() && transmission.idle()) break;
    if (given == bytes.size() && volume.waiting.empty() && transmission.output().length() == 0 && round % 3 == 2) break;
  }
  transmission.Stop();
  volume.PerformAll();
  transmission.Work();
  Check(transmission.under_way() == 0, "a request under way after the end");
  Check(volume.waiting.empty(), "a request begun after the end");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const bool tls = data[0] & 1;
  const size_t step = data[1] == 0 ? SIZE_MAX : data[1];
  const std::vector<nbd::ExportInfo> exports = {
      {.name = "", .description = "vol-1", .size_bytes = kVolumeBytes, .read_only = (data[0] & 2) != 0},
      {.name = "thin", .size_bytes = kVolumeBytes, .sector_bytes = 4096, .sparse = true},
  };
  Bytes rest(data + 2, size - 2);
  nbd::Handshake handshake(exports, tls);
  std::vector<uint8_t> replies;
  handshake.Greet(replies);
  while (!rest.empty()) {
    if (handshake.state() == State::kStartTls) handshake.TlsStarted();
    if (handshake.state() != State::kGoesOn) break;
    replies.clear();
    const size_t taken = handshake.Receive(rest.first(std::min(step, rest.size())), replies);
    Check(taken > 0 || handshake.state() != State::kGoesOn, "a handshake that takes nothing");
    Check(replies.size() <= kRepliesMax, "a reply without measure");
    rest = rest.subspan(taken);
  }
  if (handshake.state() != State::kTransmission) return 0;
  const nbd::Agreement& agreement = handshake.agreement();
  Check(!agreement.block_status || agreement.structured_replies, "block status without structured replies");
  Transmit(exports[agreement.export_index], agreement, (data[0] & 4) != 0, rest, step);
  return 0;
}
