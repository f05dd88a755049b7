// The transmission phase: writes, zeroing and trimming.
#include <algorithm>
#include <cstring>

#include "nbd/transmission_job.h"

namespace volseal::nbd {
namespace {

using engine::RequestKind;

// A write goes on once so much of it is there.
constexpr size_t kWriteBytesMin = 128 << 10;
// One request that makes holes, or writes zeros.
constexpr uint64_t kHoleBytesMax = uint64_t{1} << 30;
constexpr uint64_t kZeroBytesMax = 8 << 20;

}  // namespace

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
      job->would_block = true;
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

}  // namespace volseal::nbd
