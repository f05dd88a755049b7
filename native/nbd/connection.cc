#include "nbd/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace volseal::nbd {
namespace {

// Steps of one connection before the others of its loop have their turn.
constexpr unsigned kRoundsMax = 32;
constexpr size_t kVectorsMax = 64;
constexpr size_t kHandshakeReceiveBytes = 4096;

Status ProtocolBroken() { return Failure(Code::kArgument, "the client broke the protocol"); }

}  // namespace

Connection::Connection(ConnectionOwner& owner, engine::EngineLoop& loop, UniqueFd socket, uint64_t id,
                       std::shared_ptr<const std::vector<ExportInfo>> exports, bool tls_required)
    : owner_(owner),
      loop_(loop),
      socket_(std::move(socket)),
      id_(id),
      exports_(std::move(exports)),
      io_(std::make_unique<SocketIo>(socket_.get())),
      handshake_(*exports_, tls_required) {}

void Connection::Start() {
  loop_.Post([self = shared_from_this()] { self->Begin(); });
}

void Connection::Drain() {
  loop_.Post([self = shared_from_this()] {
    self->draining_ = true;
    if (self->transmission_) {
      self->transmission_->Drain();
      self->Pump();
    } else {
      self->End(Ok());
    }
  });
}

void Connection::Abort() {
  loop_.Post([self = shared_from_this()] { self->End(Ok()); });
}

void Connection::Begin() {
  if (ended_) return;
  interest_ = EPOLLIN;
  // The map of watchers holds a reference until End.
  Status status =
      loop_.Watch(socket_.get(), interest_, [self = shared_from_this()](uint32_t events) { self->OnEvents(events); });
  if (!status.ok()) return End(std::move(status));
  handshake_.Greet(replies_);
  Pump();
}

void Connection::OnEvents(uint32_t events) {
  drained_input_ = false;
  // Nobody reads the end of a client that is not read now.
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (interest_ & EPOLLIN) == 0) return End(Ok());
  Pump();
}

void Connection::Wake() {
  if (woken_.exchange(true)) return;
  loop_.Post([self = shared_from_this()] {
    self->woken_ = false;
    self->Pump();
  });
}

void Connection::Pump() {
  for (unsigned round = 0; round < kRoundsMax; ++round) {
    if (ended_) {
      if (transmission_ && !finished_) transmission_->Work();
      return FinishIfIdle();
    }
    const bool moved = transmission_ ? ProgressTransmission() : ProgressHandshake();
    if (!moved && !ended_) return UpdateInterest();
  }
  if (!ended_) UpdateInterest();
  Wake();
}

bool Connection::SendReplies() {
  while (replies_sent_ < replies_.size()) {
    const iovec vector = {replies_.data() + replies_sent_, replies_.size() - replies_sent_};
    const Moved sent = io_->Send(&vector, 1);
    if (sent.outcome == Outcome::kAgain) return false;
    if (sent.outcome != Outcome::kMoved) {
      End(Ok());
      return false;
    }
    replies_sent_ += sent.count;
  }
  replies_.clear();
  replies_sent_ = 0;
  return true;
}

bool Connection::ProgressHandshake() {
  if (!SendReplies()) return false;
  switch (handshake_.state()) {
    case Handshake::State::kClosed:
      End(Ok());
      return false;
    case Handshake::State::kStartTls: {
      // What came behind the option came before TLS: nobody may have meant it.
      input_.clear();
      auto tls = owner_.StartTls(socket_.get());
      if (!tls) {
        End(Failure(Code::kIo, "TLS could not be started"));
        return false;
      }
      io_ = std::move(tls);
      handshake_.TlsStarted();
      return true;
    }
    case Handshake::State::kTransmission:
      return EnterTransmission();
    case Handshake::State::kGoesOn:
      break;
  }
  if (!input_.empty()) {
    const size_t taken = handshake_.Receive(input_, replies_);
    input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(taken));
    return true;
  }
  std::array<uint8_t, kHandshakeReceiveBytes> bytes;
  const Moved received = io_->Receive(bytes);
  if (received.outcome == Outcome::kAgain) return false;
  if (received.outcome != Outcome::kMoved) {
    End(received.outcome == Outcome::kEnd ? Ok() : Failure(Code::kArgument, "the client broke off the handshake"));
    return false;
  }
  input_.assign(bytes.begin(), bytes.begin() + received.count);
  return true;
}

bool Connection::EnterTransmission() {
  const Agreement& agreement = handshake_.agreement();
  const ExportInfo& info = (*exports_)[agreement.export_index];
  export_name_ = info.name;
  identity_ = io_->identity();
  shaking_hands_ = false;
  Backend* const backend = owner_.Choose(*this, export_name_);
  if (!backend) {
    End(Ok());
    return false;
  }
  transmission_.emplace(
      info, agreement, *backend, owner_.counters(), [this] { Wake(); },
      [this](const Status& status) { owner_.VolumeFailed(*this, status); });
  // What a client sends with its choice of an export belongs here.
  if (!input_.empty()) {
    const MutableBytes space = transmission_->ReceiveSpace();
    if (space.size() < input_.size()) {
      End(SystemFailure(ENOMEM, "malloc"));
      return false;
    }
    std::memcpy(space.data(), input_.data(), input_.size());
    transmission_->Received(input_.size());
  }
  input_ = {};
  replies_ = {};
  if (draining_) transmission_->Drain();
  return true;
}

bool Connection::ProgressTransmission() {
  Transmission& transmission = *transmission_;
  transmission.Work();
  bool moved = false;
  if (transmission.output().length() > 0) {
    std::array<iovec, kVectorsMax> vectors;
    const size_t count = transmission.output().Gather(vectors.data(), vectors.size());
    const Moved sent = io_->Send(vectors.data(), count);
    if (sent.outcome == Outcome::kMoved) {
      transmission.output().Sent(sent.count);
      moved = true;
    } else if (sent.outcome != Outcome::kAgain) {
      End(Ok());
      return false;
    }
  }
  if (transmission.broken()) {
    End(ProtocolBroken());
    return false;
  }
  if (transmission.draining() && transmission.idle()) {
    End(Ok());
    return false;
  }
  // More replies first: they are in the processor's cache.
  if (moved && (transmission.has_more() || transmission.output().length() > 0)) return true;
  const MutableBytes space = transmission.ReceiveSpace();
  wants_input_ = !space.empty();
  if (!wants_input_ || drained_input_) return moved && !wants_input_;
  const Moved received = io_->Receive(space);
  switch (received.outcome) {
    case Outcome::kMoved:
      transmission.Received(received.count);
      drained_input_ = io_->short_means_empty() && received.count < space.size();
      return true;
    case Outcome::kAgain:
      return moved;
    case Outcome::kEnd:
      End(Ok());
      return false;
    default:
      End(Failure(Code::kArgument, "the connection failed"));
      return false;
  }
}

void Connection::UpdateInterest() {
  const bool output =
      io_->wants_to_send() || (transmission_ ? transmission_->output().length() > 0 : replies_sent_ < replies_.size());
  const bool input = transmission_ ? wants_input_ : replies_.empty();
  const uint32_t interest = (input ? uint32_t{EPOLLIN} : 0u) | (output ? uint32_t{EPOLLOUT} : 0u);
  if (interest == interest_) return;
  interest_ = interest;
  if (Status status = loop_.Change(socket_.get(), interest); !status.ok()) End(std::move(status));
}

void Connection::End(Status reason) {
  if (!ended_) {
    ended_ = true;
    reason_ = std::move(reason);
    loop_.Unwatch(socket_.get());
    shutdown(socket_.get(), SHUT_RDWR);
    io_.reset();
    socket_.Reset();
    if (transmission_) transmission_->Stop();
  }
  FinishIfIdle();
}

void Connection::FinishIfIdle() {
  if (finished_ || (transmission_ && transmission_->under_way() > 0)) return;
  finished_ = true;
  owner_.Ended(*this, reason_);
}

}  // namespace volseal::nbd
