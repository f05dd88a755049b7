// A volume in memory, and a client of the transmission phase that checks what it is answered.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "messages.h"
#include "nbd/transmission.h"

namespace volseal::nbd_test {

class MemoryVolume final : public nbd::Backend {
 public:
  explicit MemoryVolume(size_t size) : bytes(size) {}

  std::optional<Status> TryRead(uint64_t offset, MutableBytes target) override {
    if (!at_once) return std::nullopt;
    return Read(offset, target);
  }
  std::optional<Status> TryWriteInPlace(uint64_t offset, MutableBytes source) override {
    if (!at_once || offset % 4096 != 0 || source.size() % 4096 != 0) return std::nullopt;
    return Write(offset, source);
  }
  void Submit(engine::Request& request) override { waiting.push_back(&request); }
  void Prefetch(uint64_t, uint64_t) override { prefetches += 1; }

  // Carries out the request at `index` of those that wait.
  void Perform(size_t index = 0) {
    engine::Request& request = *waiting[index];
    waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(index));
    switch (request.kind) {
      case engine::RequestKind::kRead:
        request.status = Read(request.offset, request.bytes);
        break;
      case engine::RequestKind::kWrite:
        request.status = Write(request.offset, request.bytes);
        break;
      case engine::RequestKind::kFlush:
        flushes += 1;
        request.status = Failing() ? SystemFailure(5, "fdatasync") : Ok();
        break;
      case engine::RequestKind::kZero:
      case engine::RequestKind::kTrim:
      case engine::RequestKind::kFill:
        std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(request.offset), request.length, 0);
        request.status = Ok();
        break;
      case engine::RequestKind::kExtents:
        request.extents = {{request.offset, request.length, false}};
        request.status = Ok();
        break;
    }
    request.Done();
  }
  void PerformAll() {
    while (!waiting.empty()) Perform();
  }

  std::vector<uint8_t> bytes;
  std::deque<engine::Request*> waiting;
  bool at_once = true;
  // This many calls succeed, then all fail.
  size_t good_calls = SIZE_MAX;
  int flushes = 0;
  int prefetches = 0;

 private:
  bool Failing() { return good_calls == 0 || --good_calls == 0; }
  Status Read(uint64_t offset, MutableBytes target) {
    if (Failing()) return SystemFailure(5, "pread");
    std::memcpy(target.data(), bytes.data() + offset, target.size());
    return Ok();
  }
  Status Write(uint64_t offset, MutableBytes source) {
    if (Failing()) return SystemFailure(28, "pwrite");
    std::memcpy(bytes.data() + offset, source.data(), source.size());
    std::fill(source.begin(), source.end(), 0xee);  // as ciphertext would
    return Ok();
  }
};

// A transmission over such a volume. `Send` gives it bytes as a socket would, `Take` takes its replies.
class Client {
 public:
  Client(MemoryVolume& backend, bool structured, bool sparse = false)
      : volume(backend),
        info{.name = "", .description = "", .size_bytes = backend.bytes.size(), .sparse = sparse},
        transmission(
            info, {.export_index = 0, .structured_replies = structured, .block_status = structured}, volume, counters,
            [this] { wakes += 1; }, [this](const Status&) { failures += 1; }) {}

  // Returns how much was taken: less than all where the client is over its share.
  size_t Send(const ByteVector& bytes, size_t step = SIZE_MAX) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const MutableBytes space = transmission.ReceiveSpace();
      if (space.empty()) break;
      const size_t count = std::min({space.size(), bytes.size() - sent, step});
      std::memcpy(space.data(), bytes.data() + sent, count);
      transmission.Received(count);
      sent += count;
      transmission.Work();
    }
    return sent;
  }
  // All replies that are there, or come once the socket takes bytes. As a connection does: nobody calls Work once all
  // is sent, unless it said that there is more.
  ByteVector Take(size_t step = SIZE_MAX) {
    ByteVector taken;
    transmission.Work();
    while (transmission.output().length() > 0) {
      std::array<iovec, 64> vectors;
      const size_t pieces = transmission.output().Gather(vectors.data(), vectors.size());
      const size_t before = taken.size();
      for (size_t i = 0; i < pieces && taken.size() - before < step; ++i) {
        const size_t count = std::min(vectors[i].iov_len, step - (taken.size() - before));
        const auto* const from = static_cast<const uint8_t*>(vectors[i].iov_base);
        taken.insert(taken.end(), from, from + count);
      }
      transmission.output().Sent(taken.size() - before);
      if (transmission.has_more() || transmission.output().length() > 0) transmission.Work();
    }
    return taken;
  }
  // Lets the volume work until nothing is left to do.
  ByteVector Finish() {
    ByteVector taken = Take();
    while (!volume.waiting.empty()) {
      volume.PerformAll();
      const ByteVector more = Take();
      taken.insert(taken.end(), more.begin(), more.end());
    }
    return taken;
  }

  MemoryVolume& volume;
  const nbd::ExportInfo info;
  nbd::Counters counters;
  int wakes = 0;
  int failures = 0;
  nbd::Transmission transmission;
};

// What the chunks of one structured read say.
struct ReadReply {
  ByteVector data;  // put together
  uint32_t error = 0;
  bool done = false;
  bool good = true;  // each byte once, inside the range, one end
};

inline ReadReply ParseReadReply(const ByteVector& bytes, uint64_t offset, uint32_t length, uint64_t cookie = 7) {
  ReadReply reply;
  reply.data.resize(length);
  std::map<uint64_t, uint64_t> seen;  // where a piece begins and its length, without gap or overlap in the end
  for (size_t at = 0; at < bytes.size();) {
    const uint8_t* const chunk = &bytes[at];
    if (reply.done || bytes.size() - at < 20 || LoadBig32(chunk) != nbd::kChunkMagic ||
        LoadBig64(chunk + 8) != cookie) {
      reply.good = false;
      return reply;
    }
    const uint32_t payload = LoadBig32(chunk + 16);
    if (bytes.size() - at - 20 < payload) reply.good = false;
    if (!reply.good) return reply;
    reply.done = (LoadBig16(chunk + 4) & 1) != 0;
    const uint16_t type = LoadBig16(chunk + 6);
    if (type == nbd::kChunkOffsetData) {
      const uint64_t start = LoadBig64(chunk + 20) - offset;
      const uint64_t count = payload - 8;
      reply.good = start <= length && count <= length - start && (count == 0 || seen.emplace(start, count).second);
      if (!reply.good) return reply;
      std::memcpy(reply.data.data() + start, chunk + 28, count);
    } else if (type == nbd::kChunkError) {
      reply.error = LoadBig32(chunk + 20);
    } else if (type != nbd::kChunkNone) {
      reply.good = false;
    }
    at += 20 + payload;
  }
  uint64_t end = 0;
  for (const auto& [start, count] : seen) {
    reply.good &= reply.error == 0 ? start == end : start >= end;
    end = start + count;
  }
  if (reply.error == 0) reply.good &= end == length;
  return reply;
}

}  // namespace volseal::nbd_test
