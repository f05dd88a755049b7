// The server's side of NBD's handshake (fixed newstyle), without a socket: bytes in, bytes out.
//
// Nothing of a volume is touched before a client has chosen one. Every length is compared with its limit before a byte
// is kept for it, no reply repeats what a client sent, and TLS begins with nothing that was said before it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "nbd/export.h"
#include "nbd/wire.h"

namespace volseal::nbd {

// What a handshake has led to.
struct Agreement {
  size_t export_index = 0;
  bool structured_replies = false;
  bool block_status = false;  // base:allocation was chosen for this export
};

class Handshake {
 public:
  enum class State {
    kGoesOn,        // waits for more bytes
    kStartTls,      // send the replies, drop what was received with them, do TLS, then call TlsStarted
    kTransmission,  // see agreement()
    kClosed,        // send the replies, then close
  };

  // `exports` must outlive this. With `tls_required` a client gets nothing but TLS before it has that.
  Handshake(const std::vector<ExportInfo>& exports, bool tls_required)
      : exports_(exports), tls_required_(tls_required) {}

  // What a server says first. Once.
  void Greet(std::vector<uint8_t>& replies) const;

  // Takes bytes from the front of `input`, one option at most, and appends what is to be answered: the caller sends
  // that before it goes on, so that a client which does not read keeps no memory busy. Returns how many bytes it took;
  // 0 where it waits for more, or where the state is not kGoesOn.
  size_t Receive(Bytes input, std::vector<uint8_t>& replies);

  // TLS is up: what was agreed before is forgotten.
  void TlsStarted();

  State state() const { return state_; }
  const Agreement& agreement() const { return agreement_; }

 private:
  enum class Step { kClientFlags, kOptionHeader, kOptionData, kDropData };

  void ReceiveFlags(uint32_t flags);
  void ReceiveHeader();
  void Answer(Bytes data, std::vector<uint8_t>& replies);
  void AnswerExportName(Bytes data, std::vector<uint8_t>& replies);
  void AnswerList(Bytes data, std::vector<uint8_t>& replies);
  void AnswerInfo(Bytes data, std::vector<uint8_t>& replies);
  void AnswerMetaContext(Bytes data, std::vector<uint8_t>& replies);
  void AnswerStartTls(Bytes data, std::vector<uint8_t>& replies);
  void Enter(size_t index);
  std::optional<size_t> FindExport(std::string_view name) const;
  void Reply(uint32_t type, Bytes data, std::vector<uint8_t>& replies) const;
  void Refuse(uint32_t type, std::string_view reason, std::vector<uint8_t>& replies) const;

  const std::vector<ExportInfo>& exports_;
  const bool tls_required_;
  State state_ = State::kGoesOn;
  Step step_ = Step::kClientFlags;
  std::vector<uint8_t> partial_;  // of what this step waits for
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  bool tls_ = false;
  bool structured_ = false;
  std::optional<size_t> block_status_export_;  // base:allocation was chosen for it
  unsigned option_count_ = 0;
  uint32_t option_ = 0;
  uint32_t option_length_ = 0;
  uint32_t dropped_ = 0;
  Agreement agreement_;
};

}  // namespace volseal::nbd
