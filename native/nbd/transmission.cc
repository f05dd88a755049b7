#include "nbd/transmission.h"

#include <cstring>

#include "nbd/reply.h"
#include "nbd/transmission_job.h"

namespace volseal::nbd {
namespace {

using engine::RequestKind;

constexpr size_t kJobsMax = 256;
// Of one block status.
constexpr size_t kExtentsMax = 512;

}  // namespace

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
  has_more_ = starved_ = false;
  while (!broken_ && Step()) {
    if (output_.length() < kSendBytes) continue;
    has_more_ = true;
    return;
  }
  has_more_ = starved_;
}

std::shared_ptr<Buffer> Transmission::TakeBuffer(size_t capacity) {
  std::shared_ptr<Buffer> buffer = share_.Take(capacity);
  if (!buffer) starved_ = true;
  return buffer;
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
  auto request = ParseRequest({input_->data() + input_begin_, kRequestBytes});
  if (!request) {
    broken_ = true;
    return false;
  }
  // A long reply in one piece has the output for itself.
  if (request->command == kRead && IsContiguous(*request) && request->length > kContiguousBytesMax && jobs_ > 0)
    return false;
  input_begin_ += kRequestBytes;
  request->begun = std::chrono::steady_clock::now();
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
      return Count(request, kNoError);
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
  Count(request, error);
}

void Transmission::ReplyError(const Request& request, Error error) {
  const bool as_chunk = agreement_.structured_replies && (request.command == kRead || request.command == kBlockStatus);
  if (!as_chunk) return ReplySimple(request, error);
  uint8_t* const to = ReplyRoom(kErrorChunkBytes);
  if (!to) return;
  output_.Commit(PutErrorChunk(to, request.cookie, error));
  Count(request, error);
}

void Transmission::Count(const Request& request, Error error) {
  if (request.command < kCommandCount)
    counters_.latencies[request.command].Add(std::chrono::steady_clock::now() - request.begun);
  counters_.requests.fetch_add(1, std::memory_order_relaxed);
  if (error != kNoError) counters_.errors.fetch_add(1, std::memory_order_relaxed);
}

Error Transmission::Failed(const Status& status) {
  if (status.code == Code::kIo || status.code == Code::kPoisoned) failed_(status);
  return ErrorOf(status);
}

}  // namespace volseal::nbd
