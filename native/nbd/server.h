// An NBD server: a listener, its clients, and the volumes that they may choose.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/engine_threads.h"
#include "engine/requests.h"
#include "nbd/connection.h"
#include "nbd/listener.h"
#include "nbd/tls.h"

namespace volseal::nbd {

constexpr size_t kConnectionsMax = 64;
constexpr std::chrono::seconds kHandshakeTime{10};

struct ServedVolume {
  ExportInfo info;
  std::shared_ptr<engine::DeviceRequests> device;
};

struct ServerOptions {
  std::vector<ServedVolume> volumes;
  Listener listener;   // or
  UniqueFd connected;  // the only client
  size_t connections_max = kConnectionsMax;
  std::shared_ptr<TlsContext> tls;  // clients must use it; nullptr: there is none
};

struct Event {
  enum class Kind { kConnect, kDisconnect, kError, kClosed };
  Kind kind;
  uint64_t client = 0;
  std::string export_name = {};
  std::string identity = {};
  Status status = {};
};

struct ServerStats {
  uint64_t connections;
  uint64_t connections_total;
  uint64_t connections_refused;
  uint64_t requests;
  uint64_t errors;
  uint64_t bytes_read;
  uint64_t bytes_written;
};

class Server final : private ConnectionOwner {
 public:
  // `notify` is called in threads of the engine, the last time with kClosed; after that the server may be destroyed, by
  // a thread that is not the engine's.
  static Result<std::unique_ptr<Server>> Start(ServerOptions options, std::function<void(Event)> notify);
  ~Server() override;

  // No more clients for the volume; those that it has, whose ids are returned, are answered what has begun, or cut off
  // at once. The server ends with its last volume.
  std::vector<uint64_t> Drop(const engine::DeviceRequests& device, bool force);
  // No more clients; each is answered what has begun, for as long as `drain`, and then cut off.
  void Stop(std::chrono::milliseconds drain);
  ServerStats stats();
  const Latencies& latencies(Command command) const { return counters_.latencies[command]; }

 private:
  // The backend of a volume that is served.
  class Volume;

  Server(ServerOptions options, engine::EngineUse use, std::function<void(Event)> notify);

  Backend* Choose(Connection& connection, const std::string& export_name) override;
  void VolumeFailed(Connection& connection, const Status& status) override;
  void Ended(Connection& connection, const Status& reason) override;
  std::unique_ptr<WireIo> StartTls(int fd) override;
  Counters& counters() override { return counters_; }

  // In loop_:
  void Open();
  void Accept();
  void Add(UniqueFd socket);
  void OnTimer();
  void SetTimer(std::chrono::milliseconds time);
  void StopAccepting();
  void StopInLoop(std::chrono::milliseconds drain);
  void Close();

  engine::EngineUse use_;
  engine::EngineLoop& loop_;
  Listener listener_;
  UniqueFd timer_;
  const size_t connections_max_;
  const std::shared_ptr<TlsContext> tls_;
  const std::function<void(Event)> notify_;
  Counters counters_;

  const bool one_client_;  // the server ends with it
  // In loop_:
  UniqueFd connected_;
  bool accepting_ = false;
  bool aborting_ = false;  // after the drain

  std::mutex mutex_;
  std::vector<std::unique_ptr<Volume>> volumes_;
  std::shared_ptr<const std::vector<ExportInfo>> exports_;  // what new clients see
  struct Client {
    std::shared_ptr<Connection> connection;
    Volume* volume;  // that it has chosen
  };
  std::map<uint64_t, Client> clients_;
  uint64_t clients_total_ = 0;
  uint64_t clients_refused_ = 0;
  std::chrono::steady_clock::time_point last_failure_;
  bool stop_wanted_ = false;
  bool stopping_ = false;
};

}  // namespace volseal::nbd
