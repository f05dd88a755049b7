#include "nbd/reply.h"

#include <algorithm>
#include <cerrno>

namespace volseal::nbd {
namespace {

size_t PutChunkHeader(uint8_t* to, ChunkType type, uint64_t cookie, uint32_t length, bool done) {
  StoreBig32(to, kChunkMagic);
  StoreBig16(to + 4, done ? kChunkDone : 0);
  StoreBig16(to + 6, type);
  StoreBig64(to + 8, cookie);
  StoreBig32(to + 16, length);
  return kChunkHeaderBytes;
}

}  // namespace

size_t PutSimpleReply(uint8_t* to, Error error, uint64_t cookie) {
  StoreBig32(to, kSimpleReplyMagic);
  StoreBig32(to + 4, error);
  StoreBig64(to + 8, cookie);
  return kSimpleReplyBytes;
}

size_t PutDataChunk(uint8_t* to, uint64_t cookie, uint64_t offset, uint32_t length, bool done) {
  PutChunkHeader(to, kChunkOffsetData, cookie, length + 8, done);
  StoreBig64(to + kChunkHeaderBytes, offset);
  return kDataChunkHeaderBytes;
}

size_t PutNoneChunk(uint8_t* to, uint64_t cookie) { return PutChunkHeader(to, kChunkNone, cookie, 0, true); }

size_t PutErrorChunk(uint8_t* to, uint64_t cookie, Error error) {
  PutChunkHeader(to, kChunkError, cookie, 6, true);
  StoreBig32(to + kChunkHeaderBytes, error);
  StoreBig16(to + kChunkHeaderBytes + 4, 0);  // no message
  return kErrorChunkBytes;
}

std::vector<uint8_t> BlockStatusReply(uint64_t cookie, std::span<const engine::BlockStatus> extents, uint32_t length,
                                      bool only_one) {
  std::vector<uint8_t> reply(kChunkHeaderBytes + 4);
  uint64_t rest = length;
  for (const engine::BlockStatus& extent : extents) {
    const uint32_t piece = static_cast<uint32_t>(std::min(extent.length, rest));
    if (piece == 0) break;
    const size_t at = reply.size();
    reply.resize(at + 8);
    StoreBig32(reply.data() + at, piece);
    StoreBig32(reply.data() + at + 4, extent.zero ? kStateHole | kStateZero : 0);
    rest -= piece;
    if (only_one) break;
  }
  PutChunkHeader(reply.data(), kChunkBlockStatus, cookie, static_cast<uint32_t>(reply.size() - kChunkHeaderBytes),
                 true);
  StoreBig32(reply.data() + kChunkHeaderBytes, kAllocationContextId);
  return reply;
}

Error ErrorOf(const Status& status) {
  switch (status.code) {
    case Code::kOk:
      return kNoError;
    case Code::kArgument:
      return kErrInvalid;
    case Code::kReadOnly:
      return kErrPermission;
    case Code::kDetached:
    case Code::kKeyGone:
    case Code::kStopped:
      return kErrShutdown;
    default:
      break;
  }
  switch (status.error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return kErrNoSpace;
    case ENOMEM:
      return kErrNoMemory;
    case EPERM:
    case EACCES:
    case EROFS:
      return kErrPermission;
    default:
      return kErrIo;
  }
}

}  // namespace volseal::nbd
