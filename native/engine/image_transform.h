// Encrypts or decrypts a whole image, decrypts it and compares it with another, or encrypts a volume under another key.
// No byte passes through JavaScript.
//
// Each thread takes a piece of 1 MiB, in the image's order, then reads, transforms and writes it. So reading, cipher
// and writing of different pieces overlap. Each thread needs 2 MiB of memory, whatever the image's size.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/aligned_buffer.h"
#include "engine/device_region.h"
#include "engine/huge_page.h"
#include "engine/image_file.h"
#include "engine/image_stream.h"
#include "engine/piece_queue.h"
#include "engine/sha256.h"
#include "engine/volume_source.h"
#include "vault/vault.h"

namespace volseal::engine {

enum class TransformMode { kEncrypt, kDecrypt, kCompare };

// Where an image comes from or goes to, as in binding.d.ts.
struct FileSide {
  int fd;
  uint64_t offset_bytes;  // where the image begins in the file
  bool sparse;
  bool discard = false;  // as target, with `sparse`: zeros are not left alone but discarded, so that they read as zeros
};
// A volume as source, with keys of its own: it is decrypted on the way.
struct VolumeSide {
  std::vector<DeviceRegion> regions;
  uint32_t sector_bytes;
  bool sparse;
};
struct StreamSide {
  int fd;
  std::vector<uint8_t> preamble = {};  // as target: written before the image
};
struct ZerosSide {};

struct ImageTransformOptions {
  vault::KeyHandle key;  // not used where a volume is only decrypted
  TransformMode mode;
  uint32_t sector_bytes;
  std::variant<FileSide, VolumeSide, StreamSide, ZerosSide> source;
  uint64_t source_bytes;
  std::variant<FileSide, StreamSide> target;
  uint64_t target_bytes;
  uint64_t start_byte;
  bool digest;
};

class ImageTransform {
 public:
  using Digest = std::array<uint8_t, Sha256::kBytes>;

  static Result<std::shared_ptr<ImageTransform>> Open(const ImageTransformOptions& options);
  // Works with `thread_count` threads until `time` is over or nothing is left to take; several calls may share the
  // work. Returns whether there is more to do; kStopped after Stop or Close.
  Result<bool> Run(size_t thread_count, std::chrono::milliseconds time);
  // Ends the calls of other threads too; each ends within one piece or one wait for a stream.
  void Stop() { queue_.Stop(); }
  void Close();

  uint64_t done_bytes() const { return queue_.done_bytes(); }
  uint64_t safe_bytes() const { return queue_.safe_bytes(); }
  // SHA-256 of the image's plaintext; the same at each call. kArgument where none was asked for, or not all is done.
  Result<Digest> TakeDigest();
  // Where the first difference found so far begins.
  std::optional<uint64_t> difference() const;

 private:
  using Clock = std::chrono::steady_clock;

  // An open source: one of the three, or zeros.
  struct Source {
    ImageFile file;
    VolumeSource volume;
    ImageStream stream;
  };
  static Result<Source> OpenSource(const ImageTransformOptions& options);

  ImageTransform(const ImageTransformOptions& options, Source source, ImageFile target, ImageStream out);

  // The work of one thread.
  Status RunThread(Clock::time_point end);
  // Makes the file read as zeros there, without writing them where it can; only where zeros are to be discarded.
  Status Discard(uint64_t start, uint64_t length) const;
  // What Take gives, with the bytes that a stream has for it already in `buffer`.
  Result<std::optional<Piece>> NextPiece(MutableBytes buffer);
  // How far nothing is to be done, from `piece` on; piece.start where there is something.
  uint64_t SkippableTo(const Piece& piece) const;
  Status Transform(const Piece& piece, MutableBytes buffer, MutableBytes other);
  // Plaintext. `buffer` has room for whole sectors of both sides, and `wanted` bytes of it are filled.
  Status FillFromSource(const Piece& piece, MutableBytes buffer, size_t wanted) const;
  // The first byte at or after `position` that the source holds data for, as far as it can say.
  uint64_t NextSourceData(uint64_t position) const;
  Status Deliver(const Piece& piece, Bytes plaintext, MutableBytes other);
  Status Compare(const Piece& piece, Bytes plaintext, MutableBytes other);
  // Hashes the piece and writes it to a stream, when it is its turn.
  Status TakeTurn(const Piece& piece, Bytes plaintext, Bytes to_stream);

  HugePage BorrowPage();
  void GiveBack(HugePage page);

  const ImageTransformOptions options_;
  const bool encrypts_;
  const bool sparse_source_;
  const bool sparse_target_;
  const bool discards_;
  const bool in_turns_;  // something happens in the order of the image
  ImageFile source_;
  VolumeSource volume_;
  ImageStream in_;
  ImageFile target_;
  ImageStream out_;
  PieceQueue queue_;
  std::mutex in_mutex_;       // who holds it takes a piece and reads it from in_
  Sha256 sha256_;             // used by the thread whose turn it is, and by TakeDigest once all turns have ended
  mutable std::mutex mutex_;  // of the next three
  std::vector<HugePage> free_pages_;
  std::optional<Digest> digest_;
  std::optional<uint64_t> difference_;
  std::shared_mutex lifetime_;
  bool closed_ = false;
};

}  // namespace volseal::engine
