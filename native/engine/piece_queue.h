// Who works on which piece of an image: threads take pieces in order, finish them in any order, and where something
// must happen in order (a hash, a pipe) wait for their turn.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>

#include "base/status.h"

namespace volseal::engine {

struct Piece {
  uint64_t start;  // bytes of the image
  size_t length;
};

class PieceQueue {
 public:
  // Pieces of `piece_bytes` from `start`, a multiple of it, to `end`.
  PieceQueue(uint64_t start, uint64_t end, size_t piece_bytes)
      : end_(end), piece_bytes_(piece_bytes), cursor_(start), turn_(start), done_bytes_(start) {}

  // The next piece, or nothing where none is left, one has failed, or the queue was stopped.
  std::optional<Piece> Take();
  // Pieces before `start` that nobody has taken count as done: nothing is to do there. Whole pieces only.
  void SkipTo(uint64_t start);
  void Finish(const Piece& piece);
  // Nothing from `start` on is to be taken any more. What was taken is still finished.
  void CutAt(uint64_t start);

  // Waits until `piece` is the first that has not ended its turn; false where that will never be. For queues without
  // SkipTo.
  bool AwaitTurn(const Piece& piece);
  void EndTurn(const Piece& piece);

  // After either, nothing more is taken and nobody waits.
  void Fail();
  void Stop();
  bool stopped() const;

  bool HasMore() const;
  bool AllDone() const;
  uint64_t done_bytes() const;
  // Everything before this is finished.
  uint64_t safe_bytes() const;

 private:
  bool Ended() const { return failed_ || stopped_; }

  mutable std::mutex mutex_;
  std::condition_variable turn_ended_;
  uint64_t end_;
  const size_t piece_bytes_;
  uint64_t cursor_;
  uint64_t turn_;
  uint64_t done_bytes_;
  std::set<uint64_t> under_way_;  // starts of pieces
  bool failed_ = false;
  bool stopped_ = false;
};

}  // namespace volseal::engine
