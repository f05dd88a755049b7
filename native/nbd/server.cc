#include "nbd/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace volseal::nbd {
namespace {

using std::chrono::milliseconds;

// The sender's buffer is the window of a unix socket.
constexpr int kSendBufferBytes = 1 << 20;
// How often handshakes that take too long are looked for, and a listener that had no descriptor is tried again.
constexpr milliseconds kTick{500};
// For clients of a volume that was taken away.
constexpr milliseconds kDropTime{5000};

}  // namespace

class Server::Volume final : public Backend {
 public:
  explicit Volume(ServedVolume served) : info(std::move(served.info)), requests(std::move(served.device)) {}

  std::optional<Status> TryRead(uint64_t offset, MutableBytes target) override {
    return requests->device().TryRead(offset, target);
  }
  std::optional<Status> TryWriteInPlace(uint64_t offset, MutableBytes source) override {
    return requests->device().TryWriteInPlace(offset, source);
  }
  void Submit(engine::Request& request) override { requests->Submit(request); }
  void Prefetch(uint64_t offset, uint64_t length) override { requests->device().Prefetch(offset, length); }

  const ExportInfo info;
  const std::shared_ptr<engine::DeviceRequests> requests;
  bool dropped = false;
};

Server::Server(ServerOptions options, engine::EngineUse use, std::function<void(Event)> notify)
    : use_(std::move(use)),
      loop_(engine::EngineThreads::OfProcess().NextLoop()),
      listener_(std::move(options.listener)),
      connections_max_(std::min(options.connections_max, kConnectionsMax)),
      tls_(std::move(options.tls)),
      notify_(std::move(notify)),
      one_client_(options.connected.valid()),
      connected_(std::move(options.connected)) {
  std::vector<ExportInfo> infos;
  for (ServedVolume& served : options.volumes) {
    infos.push_back(served.info);
    volumes_.push_back(std::make_unique<Volume>(std::move(served)));
  }
  exports_ = std::make_shared<const std::vector<ExportInfo>>(std::move(infos));
}

Server::~Server() { listener_.Close(); }

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, std::function<void(Event)> notify) {
  auto use = engine::EngineUse::Begin();
  if (!use.ok()) return use.status();
  std::unique_ptr<Server> server(new Server(std::move(options), std::move(use.value()), std::move(notify)));
  server->timer_ = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!server->timer_.valid()) return SystemFailure(errno, "timerfd_create");
  server->loop_.Post([server = server.get()] { server->Open(); });
  return server;
}

void Server::Open() {
  Status status = loop_.Watch(timer_.get(), EPOLLIN, [this](uint32_t) { OnTimer(); });
  if (status.ok() && listener_.fd() >= 0) {
    status = loop_.Watch(listener_.fd(), EPOLLIN, [this](uint32_t) { Accept(); });
    accepting_ = status.ok();
  }
  if (!status.ok()) {
    notify_({.kind = Event::Kind::kError, .status = std::move(status)});
    Stop(milliseconds(0));
  } else if (connected_.valid()) {
    Add(std::move(connected_));
  }
}

void Server::Accept() {
  while (accepting_) {
    UniqueFd socket(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      Add(std::move(socket));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN) return;
    // No descriptor, no memory: the client waits in the queue until the next tick.
    notify_({.kind = Event::Kind::kError, .status = SystemFailure(errno, "accept4")});
    loop_.Unwatch(listener_.fd());
    accepting_ = false;
    SetTimer(kTick);
    return;
  }
}

void Server::Add(UniqueFd socket) {
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof kSendBufferBytes);
  const int on = 1;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a unix socket refuses it, and needs it not
  std::shared_ptr<Connection> connection;
  {
    const std::lock_guard guard(mutex_);
    if (stopping_) return;
    clients_total_ += 1;
    if (clients_.size() >= connections_max_) {
      clients_refused_ += 1;
      return;
    }
    ConnectionOwner& owner = *this;
    connection = std::make_shared<Connection>(owner, engine::EngineThreads::OfProcess().NextLoop(), std::move(socket),
                                              clients_total_, exports_, tls_ != nullptr);
    clients_[clients_total_] = {connection, nullptr};
  }
  connection->Start();
  SetTimer(kTick);
}

void Server::SetTimer(milliseconds time) {
  const int64_t nanoseconds = std::max<int64_t>(std::chrono::nanoseconds(time).count(), 1);
  itimerspec spec = {};
  spec.it_value = {static_cast<time_t>(nanoseconds / 1'000'000'000), static_cast<long>(nanoseconds % 1'000'000'000)};
  timerfd_settime(timer_.get(), 0, &spec, nullptr);
}

void Server::OnTimer() {
  uint64_t count;
  if (read(timer_.get(), &count, sizeof count) < 0) return;  // set anew meanwhile
  std::vector<std::shared_ptr<Connection>> late;
  bool wait = false;
  {
    const std::lock_guard guard(mutex_);
    aborting_ = stopping_;
    const auto limit = std::chrono::steady_clock::now() - kHandshakeTime;
    for (auto& [id, client] : clients_) {
      if (aborting_ || (client.connection->shaking_hands() && client.connection->since() < limit)) {
        late.push_back(client.connection);
      } else {
        wait |= client.connection->shaking_hands();
      }
    }
  }
  for (const auto& connection : late) connection->Abort();
  if (aborting_) return;
  if (!accepting_ && listener_.fd() >= 0) {
    accepting_ = loop_.Watch(listener_.fd(), EPOLLIN, [this](uint32_t) { Accept(); }).ok();
    wait |= !accepting_;
  }
  if (wait) SetTimer(kTick);
}

void Server::StopAccepting() {
  if (listener_.fd() < 0) return;
  if (accepting_) loop_.Unwatch(listener_.fd());
  accepting_ = false;
  listener_.Close();
}

std::vector<uint64_t> Server::Drop(const engine::DeviceRequests& device, bool force) {
  std::vector<uint64_t> ids;
  std::vector<std::shared_ptr<Connection>> users;
  bool last = true;
  {
    const std::lock_guard guard(mutex_);
    std::vector<ExportInfo> infos;
    for (const auto& volume : volumes_) {
      volume->dropped |= volume->requests.get() == &device;
      if (!volume->dropped) infos.push_back(volume->info);
    }
    last = infos.empty();
    exports_ = std::make_shared<const std::vector<ExportInfo>>(std::move(infos));
    for (auto& [id, client] : clients_) {
      if (!client.volume || client.volume->requests.get() != &device) continue;
      ids.push_back(id);
      users.push_back(client.connection);
    }
  }
  for (const auto& connection : users) force ? connection->Abort() : connection->Drain();
  if (last) Stop(kDropTime);
  return ids;
}

void Server::Stop(milliseconds drain) {
  {
    const std::lock_guard guard(mutex_);
    if (std::exchange(stop_wanted_, true)) return;
  }
  loop_.Post([this, drain] { StopInLoop(drain); });
}

void Server::StopInLoop(milliseconds drain) {
  StopAccepting();
  std::vector<std::shared_ptr<Connection>> all;
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
    for (auto& [id, client] : clients_) all.push_back(client.connection);
  }
  if (all.empty()) return Close();
  for (const auto& connection : all) connection->Drain();
  SetTimer(drain);
}

// Nothing of this server is in any queue of a loop after this.
void Server::Close() {
  loop_.Unwatch(timer_.get());
  const auto notify = notify_;
  notify({.kind = Event::Kind::kClosed});
}

Backend* Server::Choose(Connection& connection, const std::string& export_name) {
  Volume* chosen = nullptr;
  {
    const std::lock_guard guard(mutex_);
    for (const auto& volume : volumes_) {
      if (!volume->dropped && volume->info.name == export_name) chosen = volume.get();
    }
    if (!chosen) return nullptr;
    clients_.at(connection.id()).volume = chosen;
  }
  notify_({.kind = Event::Kind::kConnect,
           .client = connection.id(),
           .export_name = export_name,
           .identity = connection.identity()});
  return chosen;
}

void Server::VolumeFailed(Connection& connection, const Status& status) {
  {
    const std::lock_guard guard(mutex_);
    const auto now = std::chrono::steady_clock::now();
    // A failing disk fails every request; its owner needs to hear that, not of each.
    if (now - last_failure_ < std::chrono::seconds(1)) return;
    last_failure_ = now;
  }
  notify_({.kind = Event::Kind::kError,
           .client = connection.id(),
           .export_name = connection.export_name(),
           .status = status});
}

void Server::Ended(Connection& connection, const Status& reason) {
  const bool was_connected = !connection.shaking_hands();
  if (was_connected) {
    notify_({.kind = Event::Kind::kDisconnect,
             .client = connection.id(),
             .export_name = connection.export_name(),
             .identity = connection.identity(),
             .status = reason});
  }
  bool stop = false;
  {
    const std::lock_guard guard(mutex_);
    if (!was_connected) clients_refused_ += 1;
    clients_.erase(connection.id());
    if (clients_.empty() && stopping_) {
      // The last one, and no other comes: this is posted once.
      loop_.Post([this] { Close(); });
      return;
    }
    stop = one_client_;
  }
  if (stop) Stop(milliseconds(0));
}

std::unique_ptr<WireIo> Server::StartTls(int fd) { return tls_ ? tls_->Accept(fd) : nullptr; }

ServerStats Server::stats() {
  const std::lock_guard guard(mutex_);
  return {.connections = clients_.size(),
          .connections_total = clients_total_,
          .connections_refused = clients_refused_,
          .requests = counters_.requests,
          .errors = counters_.errors,
          .bytes_read = counters_.bytes_read,
          .bytes_written = counters_.bytes_written};
}

}  // namespace volseal::nbd
