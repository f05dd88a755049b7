// One client, on one loop of the engine: its socket, its handshake, its requests.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/engine_threads.h"
#include "nbd/export.h"
#include "nbd/handshake.h"
#include "nbd/transmission.h"
#include "nbd/wire_io.h"

namespace volseal::nbd {

class Connection;

// What a connection asks of its server. Calls come in the connection's loop.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  // The volume of an export that a client has chosen; nullptr where it was taken away meanwhile.
  virtual Backend* Choose(Connection& connection, const std::string& export_name) = 0;
  // The volume failed a request.
  virtual void VolumeFailed(Connection& connection, const Status& status) = 0;
  // The connection is over, and nothing of it is under way. `reason` where the client did not simply leave.
  virtual void Ended(Connection& connection, const Status& reason) = 0;
  // The server's side of TLS for this socket; nullptr where there is none.
  virtual std::unique_ptr<WireIo> StartTls(int fd) = 0;
  virtual Counters& counters() = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `owner` lives until it was told Ended.
  Connection(ConnectionOwner& owner, engine::EngineLoop& loop, UniqueFd socket, uint64_t id,
             std::shared_ptr<const std::vector<ExportInfo>> exports, bool tls_required);

  // From any thread:
  void Start();
  // Answers what has begun, then ends.
  void Drain();
  // Ends at once, as soon as the engine lets go of what it works on.
  void Abort();

  uint64_t id() const { return id_; }
  bool shaking_hands() const { return shaking_hands_; }
  std::chrono::steady_clock::time_point since() const { return since_; }
  // In the connection's loop, once an export was chosen:
  const std::string& export_name() const { return export_name_; }
  const std::string& identity() const { return identity_; }

 private:
  void Begin();
  void OnEvents(uint32_t events);
  // Moves on for as long as something moves.
  void Pump();
  bool ProgressHandshake();
  bool ProgressTransmission();
  bool EnterTransmission();
  bool SendReplies();
  void UpdateInterest();
  void Wake();
  void End(Status reason);
  void FinishIfIdle();

  ConnectionOwner& owner_;
  engine::EngineLoop& loop_;
  UniqueFd socket_;
  const uint64_t id_;
  const std::shared_ptr<const std::vector<ExportInfo>> exports_;
  const std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  std::atomic<bool> shaking_hands_ = true;
  std::atomic<bool> woken_ = false;

  std::unique_ptr<WireIo> io_;
  Handshake handshake_;
  std::vector<uint8_t> replies_;  // of the handshake
  size_t replies_sent_ = 0;
  std::vector<uint8_t> input_;  // of the handshake
  std::optional<Transmission> transmission_;
  std::string export_name_;
  std::string identity_;
  uint32_t interest_ = 0;
  bool drained_input_ = false;  // nothing was left in the socket when it was last read
  bool wants_input_ = true;
  bool draining_ = false;
  bool ended_ = false;
  bool finished_ = false;
  Status reason_;
};

}  // namespace volseal::nbd
