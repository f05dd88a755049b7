// A whole image from file to file through the cipher, in ranges that threads work on side by side. No byte passes
// through JavaScript.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/file.h"
#include "vault/vault.h"
#include "xts/xts.h"

namespace volseal::engine {

struct ImageTransformOptions {
  vault::KeyHandle key;
  bool encrypt;
  int source_fd;  // -1: zeros
  uint64_t source_offset_bytes;
  uint64_t source_bytes;
  int target_fd;
  uint64_t target_offset_bytes;
  uint64_t target_bytes;
  uint32_t sector_bytes;
};

class ImageTransform {
 public:
  static Result<std::shared_ptr<ImageTransform>> Open(const ImageTransformOptions& options);
  // Bytes [start, start + length) of the image, as the target counts them; start is a multiple of 1 MiB, and so is
  // length unless the image ends there. Ranges of several threads must not overlap.
  Status Run(uint64_t start, uint64_t length);
  void Close();

 private:
  // One file: O_DIRECT for whole aligned megabytes where the file system takes it, buffered for the rest.
  struct Side {
    UniqueFd buffered;
    UniqueFd direct;
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;  // when it was opened
    Status Read(uint64_t position, MutableBytes target) const;
    Status Write(uint64_t position, Bytes source) const;
    bool TakesDirect(uint64_t position, size_t length) const;
  };

  ImageTransform(const ImageTransformOptions& options, Side source, Side target)
      : options_(options), source_(std::move(source)), target_(std::move(target)) {}
  static Result<Side> OpenSide(int fd, uint64_t offset_bytes, Access access);
  Status RunPiece(const xts::KeySchedule& key, uint64_t start, size_t length, uint8_t* buffer) const;

  const ImageTransformOptions options_;
  Side source_;
  Side target_;
  std::shared_mutex lifetime_;
  bool closed_ = false;
};

}  // namespace volseal::engine
