// Requests of NBD's transmission phase, and whether one may be carried out.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "nbd/export.h"
#include "nbd/handshake.h"
#include "nbd/wire.h"

namespace volseal::nbd {

struct Request {
  uint16_t flags;
  uint16_t command;  // a Command, or anything else that a client sent
  uint64_t cookie;   // the client's name for it
  uint64_t offset;
  uint32_t length;
  std::chrono::steady_clock::time_point begun = {};  // when it was taken

  bool Has(CommandFlag flag) const { return (flags & flag) != 0; }
};

// The request in kRequestBytes bytes; nothing where its magic is wrong: whatever follows could mean anything.
std::optional<Request> ParseRequest(Bytes bytes);

// kNoError where the request may be carried out, else what it is answered with. The payload of a write follows the
// request in either case.
Error CheckRequest(const Request& request, const ExportInfo& info, const Agreement& agreement);

// Whether `length` bytes at `offset` are inside `size` bytes: the one place that compares them.
constexpr bool IsInside(uint64_t offset, uint64_t length, uint64_t size) {
  return offset <= size && length <= size - offset;
}

}  // namespace volseal::nbd
