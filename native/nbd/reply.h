// Replies of NBD's transmission phase, as bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/device.h"
#include "nbd/wire.h"

namespace volseal::nbd {

// Each writes to `to` and returns how many bytes it wrote.

// To any request but a read or a block status of a client with structured replies. kSimpleReplyBytes.
size_t PutSimpleReply(uint8_t* to, Error error, uint64_t cookie);
// Before `length` bytes of the volume from `offset` on. kDataChunkHeaderBytes.
size_t PutDataChunk(uint8_t* to, uint64_t cookie, uint64_t offset, uint32_t length, bool done);
// The end of a reply that has no data (of an empty read). kChunkHeaderBytes.
size_t PutNoneChunk(uint8_t* to, uint64_t cookie);
// The end of a reply that failed. kErrorChunkBytes.
constexpr size_t kErrorChunkBytes = kChunkHeaderBytes + 6;
size_t PutErrorChunk(uint8_t* to, uint64_t cookie, Error error);

// A whole reply to a block status of `length` (> 0) bytes: `extents` from the request's offset on, without gaps, one at
// least. What they cover beyond `length` is left out. Only the first one where `only_one`.
std::vector<uint8_t> BlockStatusReply(uint64_t cookie, std::span<const engine::BlockStatus> extents, uint32_t length,
                                      bool only_one);

// The error by which a client hears of a failure of the engine.
Error ErrorOf(const Status& status);

}  // namespace volseal::nbd
