// The NBD server's part of binding.d.ts.
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon/args.h"
#include "addon/calls.h"
#include "base/handle_table.h"
#include "nbd/server.h"

namespace volseal::addon {
namespace {

constexpr uint64_t kDrainMillisecondsMax = 3'600'000;
constexpr size_t kExportsMax = 1024;

// The way of a server's events to JavaScript. A server may outlive the thread that listens to it.
class Events {
 public:
  Events(Napi::Env env, const Napi::Function& listener)
      : env_(env), function_(Napi::ThreadSafeFunction::New(env, listener, "volseal.nbd", 0, 1)) {
    napi_add_env_cleanup_hook(env_, Disconnect, this);
  }

  // In any thread.
  void Send(nbd::Event event) {
    const std::lock_guard guard(mutex_);
    if (!connected_) return;
    auto message = std::make_unique<nbd::Event>(std::move(event));
    if (function_.NonBlockingCall(message.get(), Deliver) == napi_ok) static_cast<void>(message.release());
  }

  // The server ends with JavaScript's thread.
  void EndWithThread(nbd::Server* server) {
    const std::lock_guard guard(mutex_);
    server_ = server;
  }

  // In JavaScript's thread, once.
  void Close() {
    napi_remove_env_cleanup_hook(env_, Disconnect, this);
    const std::lock_guard guard(mutex_);
    server_ = nullptr;
    if (std::exchange(connected_, false)) function_.Release();
  }

 private:
  static void Disconnect(void* self) {
    auto* const events = static_cast<Events*>(self);
    const std::lock_guard guard(events->mutex_);
    if (std::exchange(events->connected_, false)) events->function_.Abort();
    if (events->server_) events->server_->Stop(std::chrono::milliseconds(0));
  }

  static void Deliver(Napi::Env env, Napi::Function listener, nbd::Event* message) {
    const std::unique_ptr<nbd::Event> event(message);
    if (env == nullptr) return;
    static constexpr const char* kNames[] = {"connect", "disconnect", "error", "close"};
    Napi::Object object = Napi::Object::New(env);
    object.Set("kind", kNames[static_cast<int>(event->kind)]);
    object.Set("client", static_cast<double>(event->client));
    object.Set("exportName", event->export_name);
    object.Set("identity", event->identity);
    if (!event->status.ok()) object.Set("error", ErrorOf(env, event->status).Value());
    listener.Call({object});
  }

  const napi_env env_;
  Napi::ThreadSafeFunction function_;
  std::mutex mutex_;
  nbd::Server* server_ = nullptr;
  bool connected_ = true;
};

struct Running {
  std::shared_ptr<Events> events;
  std::unique_ptr<nbd::Server> server;
};
using ServerTable = HandleTable<Running, HandleKind::kServer>;

ServerTable& Servers() {
  static auto* const servers = new ServerTable;
  return *servers;
}

std::shared_ptr<Running> ServerOf(const Napi::Value& handle) {
  auto running = Servers().Find(HandleOf(handle, "the handle"));
  if (!running) ThrowArgument(handle.Env(), "the handle names no server: it has ended, or was never started");
  return running;
}

std::string OptionalText(const Napi::Object& from, const char* member) {
  const Napi::Value value = from.Get(member);
  return value.IsUndefined() ? std::string() : TextOf(value, member);
}

nbd::ServedVolume VolumeOf(const Napi::Object& from) {
  nbd::ServedVolume volume = {.info = {}, .device = DeviceRequestsOf(from.Get("device"))};
  const engine::DeviceOptions& device = volume.device->device().options();
  volume.info = {.name = TextOf(from.Get("name"), "name"),
                 .description = TextOf(from.Get("description"), "description"),
                 .size_bytes = volume.device->device().size_bytes(),
                 .sector_bytes = device.sector_bytes,
                 .read_only = BooleanOf(from.Get("readOnly"), "readOnly") || !device.writable,
                 .sparse = device.sparse};
  if (volume.info.name.size() > nbd::kNameBytesMax || volume.info.description.size() > nbd::kNameBytesMax)
    ThrowArgument(from.Env(), "the name of an export has more than 4096 bytes");
  return volume;
}

std::shared_ptr<nbd::TlsContext> TlsOf(const Napi::Value& value) {
  if (value.IsUndefined()) return nullptr;
  const Napi::Object from = ObjectOf(value, "tls");
  nbd::TlsOptions options = {.certificate = OptionalText(from, "certificate"),
                             .key = OptionalText(from, "key"),
                             .client_ca = OptionalText(from, "clientCa"),
                             .allowed_names = {},
                             .psk = OptionalText(from, "psk")};
  if (const Napi::Value names = from.Get("allowedNames"); names.IsArray()) {
    const Napi::Array list = names.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); i++)
      options.allowed_names.push_back(TextOf(list.Get(i), "a name in allowedNames"));
  }
  return ValueOrThrow(value.Env(), nbd::TlsContext::Open(options));
}

void UseEndpoint(const Napi::Object& from, nbd::ServerOptions& options) {
  const Napi::Env env = from.Env();
  const std::string kind = TextOf(from.Get("kind"), "the endpoint's kind");
  if (kind == "unix") {
    options.listener = ValueOrThrow(env, nbd::Listener::Unix(TextOf(from.Get("path"), "path")));
  } else if (kind == "tcp") {
    const auto port = static_cast<uint16_t>(WholeNumber(from.Get("port"), "port", 0, 65535));
    options.listener = ValueOrThrow(env, nbd::Listener::Tcp(TextOf(from.Get("address"), "address"), port));
  } else if (kind == "listening") {
    options.listener = ValueOrThrow(env, nbd::Listener::Adopt(FileDescriptor(from.Get("fd"), "fd")));
  } else if (kind == "connected") {
    options.connected = ValueOrThrow(env, nbd::AdoptConnected(FileDescriptor(from.Get("fd"), "fd")));
  } else {
    ThrowArgument(env, "the endpoint's kind is not unix, tcp, listening or connected");
  }
}

Napi::Value NbdServe(const Arguments& info) {
  const Napi::Env env = info.Env();
  const Napi::Object from = ObjectOf(info[0], "options");
  if (!info[1].IsFunction()) ThrowArgument(env, "the listener is not a function");
  nbd::ServerOptions options;
  options.connections_max = WholeNumber(from.Get("connectionsMax"), "connectionsMax", 1, nbd::kConnectionsMax);
  const Napi::Value list = from.Get("exports");
  if (!list.IsArray()) ThrowArgument(env, "exports is not an array");
  const Napi::Array exports = list.As<Napi::Array>();
  if (exports.Length() < 1 || exports.Length() > kExportsMax) ThrowArgument(env, "a server has 1 to 1024 exports");
  for (uint32_t i = 0; i < exports.Length(); i++)
    options.volumes.push_back(VolumeOf(ObjectOf(exports.Get(i), "an export")));
  options.tls = TlsOf(from.Get("tls"));
  // Last: nobody can connect to what fails after this.
  UseEndpoint(ObjectOf(from.Get("endpoint"), "endpoint"), options);
  const uint16_t port = options.listener.port();

  const auto running = std::make_shared<Running>();
  // Before the server runs: a full table must not leave one behind.
  const uint64_t handle = HandleIn(env, Servers(), running, "servers");
  running->events = std::make_shared<Events>(env, info[1].As<Napi::Function>());
  auto started = nbd::Server::Start(std::move(options),
                                    [events = running->events](nbd::Event event) { events->Send(std::move(event)); });
  if (!started.ok()) {
    Servers().Remove(handle);
    running->events->Close();
    ThrowUnlessOk(env, started.status());
  }
  running->server = std::move(started.value());
  running->events->EndWithThread(running->server.get());
  Napi::Object result = Napi::Object::New(env);
  result.Set("server", FromHandle(env, handle));
  result.Set("port", port);
  return result;
}

Napi::Object LatenciesOf(Napi::Env env, const nbd::Server& server) {
  static constexpr std::pair<const char*, nbd::Command> kKinds[] = {{"read", nbd::kRead},
                                                                    {"write", nbd::kWrite},
                                                                    {"flush", nbd::kFlush},
                                                                    {"trim", nbd::kTrim},
                                                                    {"cache", nbd::kCache},
                                                                    {"writeZeroes", nbd::kWriteZeroes},
                                                                    {"blockStatus", nbd::kBlockStatus}};
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, command] : kKinds) {
    const nbd::Latencies& latencies = server.latencies(command);
    Napi::Array counts = Napi::Array::New(env, nbd::Latencies::kBuckets);
    for (uint32_t i = 0; i < nbd::Latencies::kBuckets; i++) counts[i] = static_cast<double>(latencies.count(i));
    Napi::Object kind = Napi::Object::New(env);
    kind.Set("counts", counts);
    kind.Set("seconds", static_cast<double>(latencies.nanoseconds()) / 1e9);
    object.Set(name, kind);
  }
  return object;
}

Napi::Value NbdStats(const Arguments& info) {
  const nbd::ServerStats stats = ServerOf(info[0])->server->stats();
  Napi::Object object = Napi::Object::New(info.Env());
  const std::pair<const char*, uint64_t> numbers[] = {{"connections", stats.connections},
                                                      {"connectionsTotal", stats.connections_total},
                                                      {"connectionsRefused", stats.connections_refused},
                                                      {"requests", stats.requests},
                                                      {"errors", stats.errors},
                                                      {"bytesRead", stats.bytes_read},
                                                      {"bytesWritten", stats.bytes_written}};
  for (const auto& [name, number] : numbers) object.Set(name, static_cast<double>(number));
  object.Set("latencies", LatenciesOf(info.Env(), *ServerOf(info[0])->server));
  return object;
}

Napi::Value NbdDrop(const Arguments& info) {
  const bool force = BooleanOf(info[2], "force");
  const auto ids = ServerOf(info[0])->server->Drop(*DeviceRequestsOf(info[1]), force);
  Napi::Array list = Napi::Array::New(info.Env(), ids.size());
  for (uint32_t i = 0; i < ids.size(); i++) list[i] = Napi::Number::New(info.Env(), static_cast<double>(ids[i]));
  return list;
}

Napi::Value NbdStop(const Arguments& info) {
  const uint64_t drain = WholeNumber(info[1], "drainMs", 0, kDrainMillisecondsMax);
  ServerOf(info[0])->server->Stop(std::chrono::milliseconds(drain));
  return info.Env().Undefined();
}

// After its last event: no thread of the engine uses the server any more.
Napi::Value NbdRelease(const Arguments& info) {
  const auto running = Servers().Remove(HandleOf(info[0], "the handle"));
  if (running) running->events->Close();
  return Napi::Boolean::New(info.Env(), running != nullptr);
}

}  // namespace

void RegisterNbdCalls(Napi::Env env, Napi::Object exports) {
  Export<NbdServe>(env, exports, "nbdServe");
  Export<NbdStats>(env, exports, "nbdStats");
  Export<NbdDrop>(env, exports, "nbdDrop");
  Export<NbdStop>(env, exports, "nbdStop");
  Export<NbdRelease>(env, exports, "nbdRelease");
}

}  // namespace volseal::addon
