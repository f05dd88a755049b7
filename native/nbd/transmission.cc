#include "nbd/transmission.h"

#include <algorithm>
#include <cstring>

#include "nbd/reply.h"

namespace volseal::nbd {
namespace {

using engine::RequestKind;

constexpr size_t kJobsMax = 256;
// What a write's payload is cut at: the rest of a sector would be read before it is written.
constexpr uint64_t kCutBytes = 4096;
// A write goes on once so much of it is there.
constexpr size_t kWriteBytesMin = 128 << 10;
// Data of a reply begins here in a buffer of its own; the header stands before it.
constexpr size_t kDataStart = 64;
// A reply in one piece is read as one up to this length: an error is answered with an error. A longer one is sent
// piece after piece, and an error ends the connection.
constexpr size_t kContiguousBytesMax = 1 << 20;
constexpr size_t kStreamJobsMax = 4;
// One request that makes holes, or writes zeros.
constexpr uint64_t kHoleBytesMax = uint64_t{1} << 30;
constexpr uint64_t kZeroBytesMax = 8 << 20;
// Of one block status.
constexpr size_t kExtentsMax = 512;

// How many of `left` bytes at `offset` come before a multiple of kCutBytes, if `max` are to be taken at most.
size_t PieceLength(uint64_t offset, uint64_t left, size_t max) {
  if (left <= max) return left;
  const uint64_t end = (offset + max) / kCutBytes * kCutBytes;
  return end > offset ? end - offset : max;
}

}  // namespace

struct Transmission::Job final : engine::Request {
  Job(Transmission& transmission, RequestKind kind, std::shared_ptr<Operation> its_operation)
      : engine::Request(kind), owner(transmission), operation(std::move(its_operation)) {}
  void Done() override { owner.Completed(this); }

  Transmission& owner;
  std::shared_ptr<Operation> operation;
  std::shared_ptr<Buffer> buffer;
  bool finished = false;  // of a streamed reply
};

Transmission::Transmission(const ExportInfo& info, const Agreement& agreement, Backend& backend, Counters& counters,
                           std::function<void()> wake, std::function<void(const Status&)> failed)
    : info_(info),
      agreement_(agreement),
      backend_(backend),
      counters_(counters),
      wake_(std::move(wake)),
      failed_(std::move(failed)),
      output_(share_) {}

void Transmission::Drain() {
  draining_ = true;
  writing_.reset();  // the rest of its payload will not be read, so it is not answered
}

void Transmission::Stop() {
  Drain();
  broken_ = true;
  reading_.reset();
}

Transmission::~Transmission() {
  for (Job* job : streamed_) delete job;
}

MutableBytes Transmission::ReceiveSpace() {
  if (broken_ || draining_) return {};
  constexpr size_t kSpaceMin = 64 << 10;
  const size_t rest = input_end_ - input_begin_;
  // Requests under way may use what lies before input_begin_.
  const bool mine = input_ && input_.use_count() == 1;
  if (mine && rest == 0) input_begin_ = input_end_ = 0;
  if (!input_ || kBufferBytes - input_end_ < kSpaceMin) {
    if (mine && rest + kSpaceMin <= kBufferBytes) {
      std::memmove(input_->data(), input_->data() + input_begin_, rest);
    } else {
      if (rest + kSpaceMin > kBufferBytes) return {};  // enough to do
      std::shared_ptr<Buffer> fresh = share_.Take(kBufferBytes);
      if (!fresh) return {};
      if (rest > 0) std::memcpy(fresh->data(), input_->data() + input_begin_, rest);
      input_ = std::move(fresh);
    }
    input_begin_ = 0;
    input_end_ = rest;
  }
  return {input_->data() + input_end_, kBufferBytes - input_end_};
}

void Transmission::Work() {
  TakeCompletions();
  has_more_ = false;
  while (!broken_ && Step()) {
    if (output_.length() < kSendBytes) continue;
    has_more_ = true;
    return;
  }
}

bool Transmission::Step() {
  if (streaming_) return StepStream();
  if (jobs_ >= kJobsMax) return false;
  if (reading_) return StepRead();
  if (writing_) return StepWrite();
  return StepParse();
}

bool Transmission::StepParse() {
  if (draining_ || input_end_ - input_begin_ < kRequestBytes) return false;
  const auto request = ParseRequest({input_->data() + input_begin_, kRequestBytes});
  if (!request) {
    broken_ = true;
    return false;
  }
  // A long reply in one piece has the output for itself.
  if (request->command == kRead && IsContiguous(*request) && request->length > kContiguousBytesMax && jobs_ > 0)
    return false;
  input_begin_ += kRequestBytes;
  Start(*request);
  return true;
}

void Transmission::Start(const Request& request) {
  if (request.command == kDisconnect) {
    draining_ = true;
    return;
  }
  const Error error = CheckRequest(request, info_, agreement_);
  const auto operation = std::make_shared<Operation>();
  operation->request = request;
  operation->next = request.offset;
  operation->left = request.length;
  operation->error = error;
  if (request.command == kWrite) {
    writing_ = operation;  // its payload comes also where it is refused
    return;
  }
  if (error != kNoError) return ReplyError(request, error);
  switch (request.command) {
    case kRead:
      return StartRead(operation);
    case kFlush:
      // Who cannot write has nothing to flush.
      if (info_.read_only) return ReplySimple(request, kNoError);
      return SubmitFlush(operation);
    case kCache:
      backend_.Prefetch(request.offset, request.length);
      return ReplySimple(request, kNoError);
    case kTrim:
    case kWriteZeroes: {
      if (request.length == 0) return FinishWrite(operation);
      const bool fill = request.command == kWriteZeroes && info_.sparse && request.Has(kNoHole);
      const RequestKind kind = fill                       ? RequestKind::kWrite
                               : request.command == kTrim ? RequestKind::kTrim
                                                          : RequestKind::kZero;
      auto job = std::make_unique<Job>(*this, kind, operation);
      if (fill && !(job->buffer = share_.Take(kBufferBytes))) return ReplySimple(request, kErrNoMemory);
      return SubmitZero(std::move(job));
    }
    default: {  // kBlockStatus
      auto job = std::make_unique<Job>(*this, RequestKind::kExtents, operation);
      job->offset = request.offset;
      job->length = request.length;
      job->extents_max = request.Has(kReqOne) ? 1 : kExtentsMax;
      return Submit(std::move(job));
    }
  }
}

// ---- reading ----

void Transmission::PutDataHeader(uint8_t* to, const Request& request, uint64_t offset, size_t length, bool done) const {
  if (agreement_.structured_replies) {
    PutDataChunk(to, request.cookie, offset, static_cast<uint32_t>(length), done);
  } else {
    PutSimpleReply(to, kNoError, request.cookie);
  }
}

void Transmission::StartRead(const std::shared_ptr<Operation>& operation) {
  const Request& request = operation->request;
  if (request.length == 0) {
    if (!agreement_.structured_replies) return ReplySimple(request, kNoError);
    uint8_t* const to = ReplyRoom(kChunkHeaderBytes);
    if (!to) return;
    output_.Commit(PutNoneChunk(to, request.cookie));
    return Count(kNoError);
  }
  if (IsContiguous(request) && request.length > kContiguousBytesMax) {
    streaming_ = operation;
    stream_begun_ = false;
  } else {
    reading_ = operation;
  }
}

bool Transmission::StepRead() {
  const auto operation = reading_;
  const Request& request = operation->request;
  const size_t header = HeaderBytes();
  const bool whole = IsContiguous(request);
  const size_t length = whole ? operation->left : PieceLength(operation->next, operation->left, kPieceBytes);
  const uint64_t offset = operation->next;
  const bool small = length + header <= Output::kSmallBytes;

  std::optional<Status> status;
  std::shared_ptr<Buffer> buffer;
  if (small) {
    uint8_t* const to = output_.Reserve(header + length);
    if (!to) return false;
    status = backend_.TryRead(offset, {to + header, length});
    if (!status) {
      buffer = share_.Take(length + kDataStart);
      if (!buffer) return false;
    }
  } else {
    buffer = share_.Take(std::max(length + kDataStart, kBufferBytes));
    if (!buffer) return false;
    status = backend_.TryRead(offset, {buffer->data() + kDataStart, length});
  }

  operation->next += length;
  operation->left -= length;
  if (operation->left == 0) reading_.reset();
  if (!status) {
    auto job = std::make_unique<Job>(*this, RequestKind::kRead, operation);
    job->offset = offset;
    job->buffer = std::move(buffer);
    job->bytes = {job->buffer->data() + kDataStart, length};
    Submit(std::move(job));
    return true;
  }
  const bool done = operation->left == 0 && operation->under_way == 0;
  if (!status->ok()) {
    operation->error = Failed(*status);
    // The rest would be read for nobody.
    operation->left = 0;
    reading_.reset();
    if (operation->under_way == 0) FinishRead(*operation);
    return true;
  }
  const bool last = done && operation->error == kNoError;
  if (small) {
    PutDataHeader(output_.Reserve(header + length), request, offset, length, last);
    output_.Commit(header + length);
    counters_.bytes_read.fetch_add(length, std::memory_order_relaxed);
  } else {
    EmitData(*operation, std::move(buffer), offset, length, last);
  }
  if (done) FinishRead(*operation);
  return true;
}

void Transmission::EmitData(const Operation& operation, std::shared_ptr<Buffer> buffer, uint64_t offset, size_t length,
                            bool done) {
  uint8_t* const start = buffer->data() + kDataStart - HeaderBytes();
  PutDataHeader(start, operation.request, offset, length, done);
  output_.Append(std::move(buffer), start, HeaderBytes() + length);
  counters_.bytes_read.fetch_add(length, std::memory_order_relaxed);
}

// All pieces were answered, with data or not at all.
void Transmission::FinishRead(const Operation& operation) {
  if (operation.error != kNoError) return ReplyError(operation.request, operation.error);
  Count(kNoError);
}

void Transmission::CompleteRead(Job& job) {
  Operation& operation = *job.operation;
  if (!job.status.ok()) {
    operation.error = Failed(job.status);
    if (reading_ == job.operation) reading_.reset();
    operation.left = 0;
  }
  const bool done = operation.left == 0 && operation.under_way == 0;
  // A client that takes one piece takes an error or all of it.
  if (job.status.ok() && !(operation.error != kNoError && IsContiguous(operation.request))) {
    EmitData(operation, std::move(job.buffer), job.offset, job.bytes.size(), done && operation.error == kNoError);
  }
  if (done) FinishRead(operation);
}

bool Transmission::StepStream() {
  const auto operation = streaming_;
  if (operation->left == 0 || operation->error != kNoError || streamed_.size() >= kStreamJobsMax) return false;
  std::shared_ptr<Buffer> buffer = share_.Take(kBufferBytes);
  if (!buffer) return false;
  auto job = std::make_unique<Job>(*this, RequestKind::kRead, operation);
  const size_t length = PieceLength(operation->next, operation->left, kPieceBytes);
  job->offset = operation->next;
  job->bytes = {buffer->data() + kDataStart, length};
  job->buffer = std::move(buffer);
  operation->next += length;
  operation->left -= length;
  streamed_.push_back(job.get());
  Submit(std::move(job));
  return true;
}

void Transmission::EmitStream() {
  const auto operation = streaming_;
  while (!streamed_.empty() && streamed_.front()->finished) {
    const std::unique_ptr<Job> job(streamed_.front());
    streamed_.pop_front();
    if (!job->status.ok() && operation->error == kNoError) operation->error = Failed(job->status);
    if (operation->error != kNoError) continue;
    if (!stream_begun_) {
      PutDataHeader(job->buffer->data() + kDataStart - HeaderBytes(), operation->request, operation->request.offset,
                    operation->request.length, true);
    }
    const size_t header = stream_begun_ ? 0 : HeaderBytes();
    stream_begun_ = true;
    const uint8_t* const start = job->buffer->data() + kDataStart - header;
    output_.Append(std::move(job->buffer), start, header + job->bytes.size());
    counters_.bytes_read.fetch_add(job->bytes.size(), std::memory_order_relaxed);
  }
  if (!streamed_.empty() || (operation->left > 0 && operation->error == kNoError)) return;
  streaming_.reset();
  if (operation->error != kNoError && stream_begun_) {
    // The client counts on the rest of the data: only the end of the connection tells it otherwise.
    Count(operation->error);
    broken_ = true;
    return;
  }
  FinishRead(*operation);
}

// ---- writing ----

bool Transmission::StepWrite() {
  const auto operation = writing_;
  const size_t there = input_end_ - input_begin_;
  size_t length = std::min<uint64_t>(there, operation->left);
  if (operation->left == 0) {
    writing_.reset();
    if (operation->under_way == 0) FinishWrite(operation);
    return true;
  }
  if (length == 0) return false;
  if (operation->error != kNoError) {  // dropped
    input_begin_ += length;
    operation->left -= length;
    return true;
  }
  if (length < operation->left) {
    if (length < kWriteBytesMin) return false;
    length = PieceLength(operation->next, operation->left, length);
  }
  const MutableBytes payload(input_->data() + input_begin_, length);
  const uint64_t offset = operation->next;
  input_begin_ += length;
  operation->next += length;
  operation->left -= length;

  for (size_t at = 0; at < length;) {
    const size_t step = PieceLength(offset + at, length - at, engine::kTryWriteBytesMax);
    const auto status = backend_.TryWriteInPlace(offset + at, payload.subspan(at, step));
    if (!status) {
      auto job = std::make_unique<Job>(*this, RequestKind::kWrite, operation);
      job->offset = offset + at;
      job->bytes = payload.subspan(at);
      job->buffer = input_;
      Submit(std::move(job));
      break;
    }
    if (!status->ok()) {
      operation->error = Failed(*status);
      break;
    }
    at += step;
  }
  return true;
}

void Transmission::FinishWrite(const std::shared_ptr<Operation>& operation) {
  const Request& request = operation->request;
  if (broken_) return;
  if (operation->error == kNoError && request.Has(kFua) && !operation->flushed) return SubmitFlush(operation);
  if (operation->error == kNoError && request.command == kWrite)
    counters_.bytes_written.fetch_add(request.length, std::memory_order_relaxed);
  ReplySimple(request, operation->error);
}

void Transmission::SubmitFlush(const std::shared_ptr<Operation>& operation) {
  operation->flushed = true;
  Submit(std::make_unique<Job>(*this, RequestKind::kFlush, operation));
}

void Transmission::SubmitZero(std::unique_ptr<Job> job) {
  Operation& operation = *job->operation;
  const bool fill = job->kind == RequestKind::kWrite;
  const size_t max = fill ? kPieceBytes : info_.sparse ? kHoleBytesMax : kZeroBytesMax;
  const size_t length = PieceLength(operation.next, operation.left, max);
  job->offset = operation.next;
  job->length = length;
  if (fill) {
    job->bytes = {job->buffer->data(), length};
    std::memset(job->bytes.data(), 0, length);
  }
  operation.next += length;
  operation.left -= length;
  Submit(std::move(job));
}

// ---- requests of the engine ----

void Transmission::Submit(std::unique_ptr<Job> job) {
  jobs_ += 1;
  job->operation->under_way += 1;
  backend_.Submit(*job.release());
}

void Transmission::Completed(Job* job) {
  bool first;
  {
    const std::lock_guard guard(completed_mutex_);
    first = completed_.empty();
    completed_.push_back(job);
    // Inside: once Work has taken the last job, this object may end.
    if (first) wake_();
  }
}

void Transmission::TakeCompletions() {
  std::vector<Job*> completed;
  {
    const std::lock_guard guard(completed_mutex_);
    completed.swap(completed_);
  }
  for (Job* job : completed) {
    jobs_ -= 1;
    job->operation->under_way -= 1;
    if (streaming_) {
      job->finished = true;
    } else {
      Complete(std::unique_ptr<Job>(job));
    }
  }
  if (streaming_) EmitStream();
}

void Transmission::Complete(std::unique_ptr<Job> job) {
  const auto operation = job->operation;
  switch (job->kind) {
    case RequestKind::kRead:
      return CompleteRead(*job);
    case RequestKind::kFlush:
      if (!job->status.ok()) operation->error = Failed(job->status);
      return ReplySimple(operation->request, operation->error);
    case RequestKind::kExtents: {
      if (!job->status.ok()) return ReplyError(operation->request, Failed(job->status));
      const Request& request = operation->request;
      const std::vector<uint8_t> reply =
          BlockStatusReply(request.cookie, job->extents, request.length, request.Has(kReqOne));
      uint8_t* const to = ReplyRoom(reply.size());
      if (!to) return;
      std::memcpy(to, reply.data(), reply.size());
      output_.Commit(reply.size());
      return Count(kNoError);
    }
    default:
      break;
  }
  if (!job->status.ok() && operation->error == kNoError) operation->error = Failed(job->status);
  if (operation->request.command != kWrite) return CompleteZero(std::move(job));
  if (operation->left == 0 && operation->under_way == 0 && writing_ != operation) FinishWrite(operation);
}

void Transmission::CompleteZero(std::unique_ptr<Job> job) {
  if (job->operation->error == kNoError && job->operation->left > 0 && !broken_) return SubmitZero(std::move(job));
  FinishWrite(job->operation);
}

// ---- replies ----

// A request that was carried out is answered, used up share or not: there are kJobsMax of them at most.
uint8_t* Transmission::ReplyRoom(size_t length) {
  uint8_t* const to = output_.ReserveAlways(length);
  if (!to) broken_ = true;  // no memory
  return to;
}

void Transmission::ReplySimple(const Request& request, Error error) {
  uint8_t* const to = ReplyRoom(kSimpleReplyBytes);
  if (!to) return;
  output_.Commit(PutSimpleReply(to, error, request.cookie));
  Count(error);
}

void Transmission::ReplyError(const Request& request, Error error) {
  const bool as_chunk = agreement_.structured_replies && (request.command == kRead || request.command == kBlockStatus);
  if (!as_chunk) return ReplySimple(request, error);
  uint8_t* const to = ReplyRoom(kErrorChunkBytes);
  if (!to) return;
  output_.Commit(PutErrorChunk(to, request.cookie, error));
  Count(error);
}

void Transmission::Count(Error error) {
  counters_.requests.fetch_add(1, std::memory_order_relaxed);
  if (error != kNoError) counters_.errors.fetch_add(1, std::memory_order_relaxed);
}

Error Transmission::Failed(const Status& status) {
  if (status.code == Code::kIo || status.code == Code::kPoisoned) failed_(status);
  return ErrorOf(status);
}

}  // namespace volseal::nbd
