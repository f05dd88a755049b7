// The transmission phase: reads.
#include <algorithm>

#include "nbd/reply.h"
#include "nbd/transmission_job.h"

namespace volseal::nbd {
namespace {

using engine::RequestKind;

constexpr size_t kStreamJobsMax = 4;

}  // namespace

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
    return Count(request, kNoError);
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
    if (!to) {
      starved_ = true;
      return false;
    }
    status = backend_.TryRead(offset, {to + header, length});
    if (!status) {
      buffer = TakeBuffer(length + kDataStart);
      if (!buffer) return false;
    }
  } else {
    buffer = TakeBuffer(std::max(length + kDataStart, kBufferBytes));
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
    job->would_block = true;
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
  Count(operation.request, kNoError);
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
  std::shared_ptr<Buffer> buffer = TakeBuffer(kBufferBytes);
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
    Count(operation->request, operation->error);
    broken_ = true;
    return;
  }
  FinishRead(*operation);
}

}  // namespace volseal::nbd
