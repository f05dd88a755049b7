// A whole image from one place to another through the cipher: encrypted, decrypted, or decrypted and compared. No byte
// passes through JavaScript.
//
// Threads ("lanes") take pieces of 1 MiB in order and carry each the whole way, so that reading, cipher and writing of
// different pieces overlap. Memory is a page of 2 MiB a lane, whatever the image's size.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/aligned_buffer.h"
#include "engine/huge_page.h"
#include "engine/image_file.h"
#include "engine/image_stream.h"
#include "engine/piece_queue.h"
#include "engine/sha256.h"
#include "vault/vault.h"
#include "xts/xts.h"

namespace volseal::engine {

enum class TransformMode { kEncrypt, kDecrypt, kCompare };

struct ImageTransformOptions {
  vault::KeyHandle key;
  TransformMode mode;
  int source_fd;                                // -1: zeros
  std::optional<uint64_t> source_offset_bytes;  // nothing: a stream, from where it stands
  uint64_t source_bytes;
  int target_fd;
  std::optional<uint64_t> target_offset_bytes;  // nothing: a stream
  uint64_t target_bytes;
  uint32_t sector_bytes;
  uint64_t start_byte;
  bool sparse_source;
  bool sparse_target;
  bool digest;
};

class ImageTransform {
 public:
  using Digest = std::array<uint8_t, Sha256::kBytes>;

  static Result<std::shared_ptr<ImageTransform>> Open(const ImageTransformOptions& options);
  // Works with `lanes` threads until `time` is over or nothing is left to take; several calls may share the work.
  // Whether there is more to do.
  Result<bool> Run(size_t lanes, std::chrono::milliseconds time);
  // Of what is under way in other threads too; each ends within one piece or one wait for a stream.
  void Stop() { queue_.Stop(); }
  void Close();

  uint64_t done_bytes() const { return queue_.done_bytes(); }
  uint64_t safe_bytes() const { return queue_.safe_bytes(); }
  // SHA-256 of the image's plaintext, once.
  Result<Digest> TakeDigest();
  // Where the first difference found so far begins.
  std::optional<uint64_t> difference() const;

 private:
  using Clock = std::chrono::steady_clock;

  ImageTransform(const ImageTransformOptions& options, ImageFile source, ImageFile target, ImageStream in,
                 ImageStream out);

  Status RunLane(Clock::time_point end);
  // What Take gives, with the bytes that a stream has for it already in `buffer`.
  Result<std::optional<Piece>> NextPiece(MutableBytes buffer);
  // How far nothing is to be done, from `piece` on; piece.start where there is something.
  uint64_t SkippableTo(const Piece& piece) const;
  Status Transform(const Piece& piece, MutableBytes buffer, MutableBytes other);
  Status FillFromSource(const Piece& piece, MutableBytes buffer) const;
  // Decrypts in place. Sectors of zeros in a sparse volume stay zeros.
  void Decrypt(const xts::KeySchedule& key, xts::SectorRun run, MutableBytes sectors) const;
  Status Deliver(const Piece& piece, Bytes plaintext, MutableBytes other);
  Status Compare(const Piece& piece, Bytes plaintext, MutableBytes other);
  // Hashes the piece and writes it to a stream, when it is its turn.
  Status TakeTurn(const Piece& piece, Bytes plaintext, Bytes to_stream);

  HugePage BorrowPage();
  void GiveBack(HugePage page);

  const ImageTransformOptions options_;
  const bool encrypts_;
  const bool in_turns_;  // something happens in the order of the image
  ImageFile source_;
  ImageFile target_;
  ImageStream in_;
  ImageStream out_;
  PieceQueue queue_;
  std::mutex in_mutex_;  // who holds it takes a piece and reads it from in_
  Sha256 sha256_;        // of whose turn it is
  mutable std::mutex mutex_;
  std::vector<HugePage> free_pages_;
  std::optional<uint64_t> difference_;
  std::shared_mutex lifetime_;
  bool closed_ = false;
};

}  // namespace volseal::engine
