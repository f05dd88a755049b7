// The server's side of NBD's transmission phase, without a socket: requests in, replies out.
//
// All requests that have been received are carried out in one go and their replies collected. What would block is left
// to a thread that may; meanwhile the next requests have their turn, and replies come in whatever order. Payloads move
// in pieces, so that a connection needs no more than its share of memory, whatever its requests' lengths. A client
// whose share is used up is not read until it has taken replies.
//
// All calls are made in one thread (of the connection's loop) but Completed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/requests.h"
#include "nbd/buffer.h"
#include "nbd/counters.h"
#include "nbd/export.h"
#include "nbd/handshake.h"
#include "nbd/output.h"
#include "nbd/request.h"

namespace volseal::nbd {

// The volume behind an export.
class Backend {
 public:
  virtual ~Backend() = default;
  // As engine::Device's.
  virtual std::optional<Status> TryRead(uint64_t offset, MutableBytes target) = 0;
  virtual std::optional<Status> TryWriteInPlace(uint64_t offset, MutableBytes source) = 0;
  // As engine::DeviceRequests'.
  virtual void Submit(engine::Request& request) = 0;
  // The range will be read soon. Does not block.
  virtual void Prefetch(uint64_t offset, uint64_t length) = 0;
};

class Transmission {
 public:
  // `wake` is called, in whatever thread, once Work has something to do again; `failed` for each failure of the volume,
  // in the thread of Work. Both may be called until under_way() is 0; `info`, `backend` and `counters` are used as
  // long.
  Transmission(const ExportInfo& info, const Agreement& agreement, Backend& backend, Counters& counters,
               std::function<void()> wake, std::function<void(const Status&)> failed);
  ~Transmission();

  // Where the next bytes from the client go; empty where none are wanted now.
  MutableBytes ReceiveSpace();
  // So many bytes are there. Work carries them out.
  void Received(size_t count) { input_end_ += count; }

  // Goes on with everything that can be done now, until kSendBytes of replies wait to be sent.
  void Work();
  static constexpr size_t kSendBytes = 128 << 10;
  // Whether Work stopped with more to do, at kSendBytes or because the share is used up: it can go on once replies have
  // been sent. No event of the socket says so.
  bool has_more() const { return has_more_; }

  Output& output() { return output_; }

  // Takes no more requests; those that have begun are answered.
  void Drain();
  // Begins nothing any more, and finishes nothing but what the engine has: nobody hears of it. Work then only takes its
  // completions.
  void Stop();
  // No more requests will be read: the client said so, or Drain was called.
  bool draining() const { return draining_; }
  // The client broke the protocol, or a reply failed half-way: the connection must be closed.
  bool broken() const { return broken_; }
  // Requests of the engine that are not done: until then this must live.
  size_t under_way() const { return jobs_; }
  // Nothing is left to be done or sent.
  bool idle() const { return jobs_ == 0 && output_.length() == 0 && !reading_ && !writing_ && !streaming_; }

 private:
  // A client's request.
  struct Operation {
    Request request;
    uint64_t next = 0;     // where in the volume its next piece begins
    uint64_t left = 0;     // bytes from there on
    size_t under_way = 0;  // its pieces in the engine
    bool flushed = false;  // of FUA
    Error error = kNoError;
  };
  // A request of the engine, for a piece of an operation.
  struct Job;
  friend struct Job;

  // Each does one step; false where nothing more can be done now.
  bool Step();
  bool StepParse();
  bool StepRead();
  bool StepWrite();
  bool StepStream();

  void Start(const Request& request);
  void StartRead(const std::shared_ptr<Operation>& operation);
  void Submit(std::unique_ptr<Job> job);
  void Completed(Job* job);  // in any thread
  void TakeCompletions();
  void Complete(std::unique_ptr<Job> job);
  void CompleteRead(Job& job);
  void CompleteZero(std::unique_ptr<Job> job);
  void EmitData(const Operation& operation, std::shared_ptr<Buffer> buffer, uint64_t offset, size_t length, bool done);
  void EmitStream();
  void FinishRead(const Operation& operation);
  void FinishWrite(const std::shared_ptr<Operation>& operation);
  void SubmitFlush(const std::shared_ptr<Operation>& operation);
  void SubmitZero(std::unique_ptr<Job> job);
  // From the share, for a step that waits where there is none.
  std::shared_ptr<Buffer> TakeBuffer(size_t capacity);
  uint8_t* ReplyRoom(size_t length);
  void ReplySimple(const Request& request, Error error);
  void ReplyError(const Request& request, Error error);
  void Count(const Request& request, Error error);
  Error Failed(const Status& status);
  bool IsContiguous(const Request& request) const {
    return !agreement_.structured_replies || request.Has(kDontFragment);
  }
  size_t HeaderBytes() const { return agreement_.structured_replies ? kDataChunkHeaderBytes : kSimpleReplyBytes; }
  void PutDataHeader(uint8_t* to, const Request& request, uint64_t offset, size_t length, bool done) const;

  const ExportInfo& info_;
  const Agreement agreement_;
  Backend& backend_;
  Counters& counters_;
  const std::function<void()> wake_;
  const std::function<void(const Status&)> failed_;

  BufferShare share_;
  std::shared_ptr<Buffer> input_;
  size_t input_begin_ = 0;  // what was not taken yet
  size_t input_end_ = 0;
  Output output_;

  std::shared_ptr<Operation> reading_;    // a read that is being cut into pieces
  std::shared_ptr<Operation> writing_;    // a write whose payload is being received
  std::shared_ptr<Operation> streaming_;  // a long reply in one piece: nothing may come between
  std::deque<Job*> streamed_;             // its pieces, in order; owned
  bool stream_begun_ = false;

  size_t jobs_ = 0;
  bool has_more_ = false;
  bool starved_ = false;  // a step of this Work found no memory in the share
  bool draining_ = false;
  bool broken_ = false;

  std::mutex completed_mutex_;
  std::vector<Job*> completed_;
};

}  // namespace volseal::nbd
