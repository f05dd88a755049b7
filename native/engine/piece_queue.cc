#include "engine/piece_queue.h"

#include <algorithm>

namespace volseal::engine {

std::optional<Piece> PieceQueue::Take() {
  const std::lock_guard guard(mutex_);
  if (Ended() || cursor_ >= end_) return std::nullopt;
  const Piece piece = {cursor_, static_cast<size_t>(std::min<uint64_t>(piece_bytes_, end_ - cursor_))};
  under_way_.insert(piece.start);
  cursor_ += piece.length;
  return piece;
}

void PieceQueue::SkipTo(uint64_t start) {
  const std::lock_guard guard(mutex_);
  start = std::min(start < end_ ? start / piece_bytes_ * piece_bytes_ : end_, end_);
  if (start <= cursor_) return;
  done_bytes_ += start - cursor_;
  cursor_ = start;
}

void PieceQueue::Finish(const Piece& piece) {
  const std::lock_guard guard(mutex_);
  under_way_.erase(piece.start);
  done_bytes_ += piece.length;
}

void PieceQueue::CutAt(uint64_t start) {
  const std::lock_guard guard(mutex_);
  end_ = std::max(cursor_, std::min(end_, start));
}

bool PieceQueue::AwaitTurn(const Piece& piece) {
  std::unique_lock guard(mutex_);
  turn_ended_.wait(guard, [&] { return turn_ == piece.start || Ended(); });
  return !Ended();
}

void PieceQueue::EndTurn(const Piece& piece) {
  const std::lock_guard guard(mutex_);
  turn_ = piece.start + piece.length;
  turn_ended_.notify_all();
}

void PieceQueue::Fail() {
  const std::lock_guard guard(mutex_);
  failed_ = true;
  turn_ended_.notify_all();
}

void PieceQueue::Stop() {
  const std::lock_guard guard(mutex_);
  stopped_ = true;
  turn_ended_.notify_all();
}

bool PieceQueue::stopped() const {
  const std::lock_guard guard(mutex_);
  return stopped_;
}

bool PieceQueue::HasMore() const {
  const std::lock_guard guard(mutex_);
  return !Ended() && cursor_ < end_;
}

bool PieceQueue::AllDone() const {
  const std::lock_guard guard(mutex_);
  return cursor_ >= end_ && under_way_.empty();
}

uint64_t PieceQueue::done_bytes() const {
  const std::lock_guard guard(mutex_);
  return done_bytes_;
}

uint64_t PieceQueue::safe_bytes() const {
  const std::lock_guard guard(mutex_);
  return under_way_.empty() ? cursor_ : *under_way_.begin();
}

}  // namespace volseal::engine
