#include "nbd/request.h"

namespace volseal::nbd {

std::optional<Request> ParseRequest(Bytes bytes) {
  if (bytes.size() < kRequestBytes || LoadBig32(bytes.data()) != kRequestMagic) return std::nullopt;
  return Request{.flags = LoadBig16(bytes.data() + 4),
                 .command = LoadBig16(bytes.data() + 6),
                 .cookie = LoadBig64(bytes.data() + 8),
                 .offset = LoadBig64(bytes.data() + 16),
                 .length = LoadBig32(bytes.data() + 24)};
}

namespace {

// FUA is taken on any command: it asks for more, never for less.
uint16_t AllowedFlags(uint16_t command, const Agreement& agreement) {
  switch (command) {
    case kRead:
      return kFua | (agreement.structured_replies ? kDontFragment : 0);
    case kWriteZeroes:
      return kFua | kNoHole | kFastZero;
    case kBlockStatus:
      return kFua | kReqOne;
    default:
      return kFua;
  }
}

}  // namespace

Error CheckRequest(const Request& request, const ExportInfo& info, const Agreement& agreement) {
  if ((request.flags & ~AllowedFlags(request.command, agreement)) != 0) return kErrInvalid;
  const bool inside = IsInside(request.offset, request.length, info.size_bytes);
  switch (request.command) {
    case kRead:
      return inside && request.length <= kPayloadBytesMax ? kNoError : kErrInvalid;
    case kWrite:
      if (info.read_only) return kErrPermission;
      if (request.length > kPayloadBytesMax) return kErrInvalid;
      return inside ? kNoError : kErrNoSpace;
    case kFlush:
      return request.offset == 0 && request.length == 0 ? kNoError : kErrInvalid;
    case kTrim:
      if (info.read_only) return kErrPermission;
      return info.sparse && inside ? kNoError : kErrInvalid;
    case kCache:
      return inside ? kNoError : kErrInvalid;
    case kWriteZeroes:
      if (info.read_only) return kErrPermission;
      if (!inside) return kErrNoSpace;
      // Fast is what makes holes only.
      return request.Has(kFastZero) && (!info.sparse || request.Has(kNoHole)) ? kErrNotSupported : kNoError;
    case kBlockStatus:
      return agreement.block_status && inside && request.length > 0 ? kNoError : kErrInvalid;
    default:
      return kErrInvalid;
  }
}

}  // namespace volseal::nbd
