// What the parts of Transmission share: pieces, and the engine's requests for them. Only for transmission*.cc.
#pragma once

#include <memory>
#include <utility>

#include "nbd/transmission.h"

namespace volseal::nbd {

// What a write's payload is cut at: the rest of a sector would be read before it is written.
constexpr uint64_t kCutBytes = 4096;
// Data of a reply begins here in a buffer of its own; the header stands before it.
constexpr size_t kDataStart = 64;
// A reply in one piece is read as one up to this length: an error is answered with an error. A longer one is sent
// piece after piece, and an error ends the connection.
constexpr size_t kContiguousBytesMax = 1 << 20;

// How many of `left` bytes at `offset` come before a multiple of kCutBytes, if `max` are to be taken at most.
constexpr size_t PieceLength(uint64_t offset, uint64_t left, size_t max) {
  if (left <= max) return left;
  const uint64_t end = (offset + max) / kCutBytes * kCutBytes;
  return end > offset ? end - offset : max;
}

struct Transmission::Job final : engine::Request {
  Job(Transmission& transmission, engine::RequestKind request_kind, std::shared_ptr<Operation> its_operation)
      : engine::Request(request_kind), owner(transmission), operation(std::move(its_operation)) {}
  void Done() override { owner.Completed(this); }

  Transmission& owner;
  std::shared_ptr<Operation> operation;
  std::shared_ptr<Buffer> buffer;
  bool finished = false;  // of a streamed reply
};

}  // namespace volseal::nbd
