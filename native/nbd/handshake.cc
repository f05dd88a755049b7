#include "nbd/handshake.h"

#include <algorithm>

namespace volseal::nbd {
namespace {

// Takes numbers and strings from the front of an option's data. Once something was missing, everything is.
class Reader {
 public:
  explicit Reader(Bytes data) : rest_(data) {}

  uint16_t Take16() {
    const Bytes bytes = Take(2);
    return ok_ ? LoadBig16(bytes.data()) : 0;
  }
  uint32_t Take32() {
    const Bytes bytes = Take(4);
    return ok_ ? LoadBig32(bytes.data()) : 0;
  }
  // A length of 32 bits and as many bytes, kNameBytesMax at most.
  std::string_view TakeString() {
    const uint32_t length = Take32();
    if (length > kNameBytesMax) ok_ = false;
    const Bytes bytes = Take(length);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && rest_.empty(); }

 private:
  Bytes Take(size_t length) {
    if (!ok_ || length > rest_.size()) {
      ok_ = false;
      return {};
    }
    const Bytes bytes = rest_.first(length);
    rest_ = rest_.subspan(length);
    return bytes;
  }

  Bytes rest_;
  bool ok_ = true;
};

class Writer {
 public:
  explicit Writer(std::vector<uint8_t>& target) : target_(target) {}
  Writer& Put16(uint16_t value) {
    StoreBig16(Grow(2), value);
    return *this;
  }
  Writer& Put32(uint32_t value) {
    StoreBig32(Grow(4), value);
    return *this;
  }
  Writer& Put64(uint64_t value) {
    StoreBig64(Grow(8), value);
    return *this;
  }
  Writer& Put(std::string_view text) {
    target_.insert(target_.end(), text.begin(), text.end());
    return *this;
  }
  Writer& PutZeros(size_t count) {
    target_.resize(target_.size() + count);
    return *this;
  }

 private:
  uint8_t* Grow(size_t count) {
    target_.resize(target_.size() + count);
    return target_.data() + target_.size() - count;
  }
  std::vector<uint8_t>& target_;
};

}  // namespace

void Handshake::Greet(std::vector<uint8_t>& replies) const {
  Writer(replies).Put64(kInitMagic).Put64(kOptionMagic).Put16(kFlagFixedNewstyle | kFlagNoZeroes);
}

void Handshake::TlsStarted() {
  tls_ = true;
  structured_ = false;
  block_status_export_.reset();
  partial_.clear();
  step_ = Step::kOptionHeader;
  state_ = State::kGoesOn;
}

size_t Handshake::Receive(Bytes input, std::vector<uint8_t>& replies) {
  size_t taken = 0;
  while (state_ == State::kGoesOn) {
    const Bytes rest = input.subspan(taken);
    if (step_ == Step::kDropData) {
      const size_t count = std::min<size_t>(option_length_ - dropped_, rest.size());
      dropped_ += static_cast<uint32_t>(count);
      taken += count;
      if (dropped_ < option_length_) return taken;
      step_ = Step::kOptionHeader;
      Refuse(kRepErrTooBig, "the option is too long", replies);
      return taken;
    }
    const size_t needed = step_ == Step::kClientFlags    ? kClientFlagsBytes
                          : step_ == Step::kOptionHeader ? kOptionHeaderBytes
                                                         : option_length_;
    const size_t count = std::min(needed - partial_.size(), rest.size());
    partial_.insert(partial_.end(), rest.begin(), rest.begin() + static_cast<ptrdiff_t>(count));
    taken += count;
    if (partial_.size() < needed) return taken;
    if (step_ == Step::kClientFlags) {
      ReceiveFlags(LoadBig32(partial_.data()));
      partial_.clear();
    } else if (step_ == Step::kOptionHeader) {
      ReceiveHeader();
    } else {
      // Moved out first: TLS and the next option begin with nothing.
      const std::vector<uint8_t> data = std::move(partial_);
      partial_ = {};
      step_ = Step::kOptionHeader;
      Answer(data, replies);
      return taken;
    }
  }
  return taken;
}

void Handshake::ReceiveFlags(uint32_t flags) {
  step_ = Step::kOptionHeader;
  fixed_newstyle_ = (flags & kFlagFixedNewstyle) != 0;
  no_zeroes_ = (flags & kFlagNoZeroes) != 0;
  if ((flags & ~uint32_t{kFlagFixedNewstyle | kFlagNoZeroes}) != 0) state_ = State::kClosed;
}

void Handshake::ReceiveHeader() {
  const uint64_t magic = LoadBig64(partial_.data());
  option_ = LoadBig32(partial_.data() + 8);
  option_length_ = LoadBig32(partial_.data() + 12);
  partial_.clear();
  // An old client knows one option only, and takes no reply to any other.
  const bool unexpected = !fixed_newstyle_ && option_ != kOptExportName;
  // This option's reply has no place for an error.
  const bool unanswerable = option_ == kOptExportName && option_length_ > kNameBytesMax;
  if (magic != kOptionMagic || ++option_count_ > kOptionsMax || unexpected || unanswerable ||
      option_length_ > kOptionBytesDropped) {
    state_ = State::kClosed;
    return;
  }
  dropped_ = 0;
  step_ = option_length_ > kOptionBytesKept ? Step::kDropData : Step::kOptionData;
}

void Handshake::Answer(Bytes data, std::vector<uint8_t>& replies) {
  if (option_ == kOptAbort) {
    Reply(kRepAck, {}, replies);
    state_ = State::kClosed;
    return;
  }
  if (option_ == kOptStartTls) return AnswerStartTls(data, replies);
  if (tls_required_ && !tls_) {
    if (option_ == kOptExportName) {
      state_ = State::kClosed;
    } else {
      Refuse(kRepErrTlsRequired, "this server needs TLS", replies);
    }
    return;
  }
  switch (option_) {
    case kOptExportName:
      return AnswerExportName(data, replies);
    case kOptList:
      return AnswerList(data, replies);
    case kOptInfo:
    case kOptGo:
      return AnswerInfo(data, replies);
    case kOptStructuredReply:
      if (!data.empty()) return Refuse(kRepErrInvalid, "this option has no data", replies);
      structured_ = true;
      return Reply(kRepAck, {}, replies);
    case kOptListMetaContext:
    case kOptSetMetaContext:
      return AnswerMetaContext(data, replies);
    default:
      return Refuse(kRepErrUnsupported, "this server does not know the option", replies);
  }
}

void Handshake::AnswerStartTls(Bytes data, std::vector<uint8_t>& replies) {
  if (!data.empty()) return Refuse(kRepErrInvalid, "this option has no data", replies);
  if (!tls_required_) return Refuse(kRepErrPolicy, "this server has no TLS", replies);
  if (tls_) return Refuse(kRepErrInvalid, "TLS is there already", replies);
  Reply(kRepAck, {}, replies);
  state_ = State::kStartTls;
}

void Handshake::AnswerExportName(Bytes data, std::vector<uint8_t>& replies) {
  const auto index = FindExport({reinterpret_cast<const char*>(data.data()), data.size()});
  if (!index) {
    state_ = State::kClosed;
    return;
  }
  const ExportInfo& info = exports_[*index];
  Writer(replies).Put64(info.size_bytes).Put16(TransmissionFlags(info, structured_)).PutZeros(no_zeroes_ ? 0 : 124);
  Enter(*index);
}

void Handshake::Enter(size_t index) {
  agreement_ = {index, structured_, block_status_export_ == index};
  state_ = State::kTransmission;
}

void Handshake::AnswerList(Bytes data, std::vector<uint8_t>& replies) {
  if (!data.empty()) return Refuse(kRepErrInvalid, "this option has no data", replies);
  for (const ExportInfo& info : exports_) {
    std::vector<uint8_t> entry;
    Writer(entry).Put32(static_cast<uint32_t>(info.name.size())).Put(info.name).Put(info.description);
    Reply(kRepServer, entry, replies);
  }
  Reply(kRepAck, {}, replies);
}

void Handshake::AnswerInfo(Bytes data, std::vector<uint8_t>& replies) {
  Reader reader(data);
  const std::string_view name = reader.TakeString();
  const uint16_t count = reader.Take16();
  bool wants[4] = {};
  for (uint16_t i = 0; i < count && reader.ok(); i++) {
    const uint16_t type = reader.Take16();
    if (type < std::size(wants)) wants[type] = true;
  }
  if (!reader.AtEnd()) return Refuse(kRepErrInvalid, "the option's data is malformed", replies);
  const auto index = FindExport(name);
  if (!index) return Refuse(kRepErrUnknown, "there is no such export", replies);
  const ExportInfo& info = exports_[*index];

  std::vector<uint8_t> item;
  Writer(item).Put16(kInfoExport).Put64(info.size_bytes).Put16(TransmissionFlags(info, structured_));
  Reply(kRepInfo, item, replies);
  if (wants[kInfoName]) {
    item.clear();
    Writer(item).Put16(kInfoName).Put(info.name);
    Reply(kRepInfo, item, replies);
  }
  if (wants[kInfoDescription] && !info.description.empty()) {
    item.clear();
    Writer(item).Put16(kInfoDescription).Put(info.description);
    Reply(kRepInfo, item, replies);
  }
  if (wants[kInfoBlockSize]) {
    item.clear();
    Writer(item).Put16(kInfoBlockSize).Put32(1).Put32(info.preferred_block_bytes()).Put32(kPayloadBytesMax);
    Reply(kRepInfo, item, replies);
  }
  Reply(kRepAck, {}, replies);
  if (option_ == kOptGo) Enter(*index);
}

void Handshake::AnswerMetaContext(Bytes data, std::vector<uint8_t>& replies) {
  const bool set = option_ == kOptSetMetaContext;
  // Even a set that fails ends what an earlier one chose.
  if (set) block_status_export_.reset();
  Reader reader(data);
  const std::string_view name = reader.TakeString();
  const uint32_t count = reader.Take32();
  bool chosen = !set && count == 0;
  for (uint32_t i = 0; i < count && reader.ok(); i++) {
    const std::string_view query = reader.TakeString();
    if (reader.ok() && (query == kAllocationContext || (!set && query == "base:"))) chosen = true;
  }
  if (!reader.AtEnd()) return Refuse(kRepErrInvalid, "the option's data is malformed", replies);
  if (set && !structured_) return Refuse(kRepErrInvalid, "structured replies come first", replies);
  const auto index = FindExport(name);
  if (!index) return Refuse(kRepErrUnknown, "there is no such export", replies);
  if (chosen) {
    if (set) block_status_export_ = index;
    std::vector<uint8_t> context;
    Writer(context).Put32(set ? kAllocationContextId : 0).Put(kAllocationContext);
    Reply(kRepMetaContext, context, replies);
  }
  Reply(kRepAck, {}, replies);
}

std::optional<size_t> Handshake::FindExport(std::string_view name) const {
  for (size_t i = 0; i < exports_.size(); i++) {
    if (exports_[i].name == name) return i;
  }
  return std::nullopt;
}

void Handshake::Reply(uint32_t type, Bytes data, std::vector<uint8_t>& replies) const {
  Writer(replies).Put64(kOptionReplyMagic).Put32(option_).Put32(type).Put32(static_cast<uint32_t>(data.size()));
  replies.insert(replies.end(), data.begin(), data.end());
}

void Handshake::Refuse(uint32_t type, std::string_view reason, std::vector<uint8_t>& replies) const {
  Reply(type, {reinterpret_cast<const uint8_t*>(reason.data()), reason.size()}, replies);
}

}  // namespace volseal::nbd
