#include "nbd/tls.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "base/wipe.h"

namespace volseal::nbd {
namespace {

constexpr size_t kPskFileBytesMax = 1 << 20;
constexpr size_t kPskBytesMin = 16;
constexpr size_t kPskBytesMax = 64;

// "PATH: what is wrong: what OpenSSL says".
Status TlsFailure(const std::string& path, const char* what) {
  char reason[256] = "unknown reason";
  const unsigned long error = ERR_get_error();
  if (error != 0) ERR_error_string_n(error, reason, sizeof reason);
  ERR_clear_error();
  return Failure(Code::kArgument, path + ": " + what + ": " + reason);
}

// The file must be its owner's alone.
Result<UniqueFd> OpenPrivate(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    Status status = SystemFailure(errno, "open");
    status.message = path + ": " + status.message;
    return status;
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return SystemFailure(errno, "fstat");
  if (!S_ISREG(info.st_mode) || (info.st_mode & 077) != 0)
    return Failure(Code::kArgument, path + ": others than the owner may use this file; chmod 600 it");
  return fd;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// No terminal is asked for a pass phrase.
int NoPassPhrase(char*, int, int, void*) { return 0; }

}  // namespace

class TlsIo final : public WireIo {
 public:
  TlsIo(const TlsContext& context, SSL* ssl) : context_(context), ssl_(ssl) { SSL_set_app_data(ssl, this); }
  ~TlsIo() override {
    // Once: the client's own farewell is not waited for.
    if (up_ && !failed_) SSL_shutdown(ssl_);
    SSL_free(ssl_);
    ERR_clear_error();
  }

  Moved Receive(MutableBytes target) override {
    if (failed_) return {Outcome::kFailed, 0};
    if (!up_) {
      if (const Moved moved = ShakeHands(); moved.outcome != Outcome::kMoved) return moved;
    }
    size_t count = 0;
    ERR_clear_error();
    const int result = SSL_read_ex(ssl_, target.data(), target.size(), &count);
    return result == 1 ? Moved{Outcome::kMoved, count} : Stopped(result);
  }

  Moved Send(const iovec* vectors, size_t count) override {
    if (failed_) return {Outcome::kFailed, 0};
    if (!up_) return {Outcome::kAgain, 0};
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
      const uint8_t* const bytes = static_cast<const uint8_t*>(vectors[i].iov_base);
      for (size_t at = 0; at < vectors[i].iov_len;) {
        size_t written = 0;
        ERR_clear_error();
        const int result = SSL_write_ex(ssl_, bytes + at, vectors[i].iov_len - at, &written);
        if (result != 1) {
          const Moved stopped = Stopped(result);
          return total > 0 && stopped.outcome == Outcome::kAgain ? Moved{Outcome::kMoved, total} : stopped;
        }
        at += written;
        total += written;
      }
    }
    return {Outcome::kMoved, total};
  }

  bool short_means_empty() const override { return false; }
  bool wants_to_send() const override { return wants_to_send_; }
  std::string identity() const override { return identity_; }

  static unsigned FindKey(SSL* ssl, const char* identity, unsigned char* key, unsigned key_bytes_max) {
    auto* const self = static_cast<TlsIo*>(SSL_get_app_data(ssl));
    const auto found = self->context_.keys_.find(identity);
    if (found == self->context_.keys_.end() || found->second.size() > key_bytes_max) return 0;
    self->identity_ = found->first;
    std::memcpy(key, found->second.data(), found->second.size());
    return static_cast<unsigned>(found->second.size());
  }

 private:
  Moved ShakeHands() {
    ERR_clear_error();
    const int result = SSL_accept(ssl_);
    if (result != 1) return Stopped(result);
    if (!CheckName()) {
      failed_ = true;
      return {Outcome::kFailed, 0};
    }
    up_ = true;
    wants_to_send_ = false;
    return {Outcome::kMoved, 0};
  }

  // An authority that signed the client's certificate has said who it is, not that it may come in.
  bool CheckName() {
    X509* const certificate = SSL_get1_peer_certificate(ssl_);
    if (!certificate) return context_.allowed_names_.empty();
    bool allowed = context_.allowed_names_.empty();
    for (const std::string& name : context_.allowed_names_) {
      if (X509_check_host(certificate, name.data(), name.size(), X509_CHECK_FLAG_NO_WILDCARDS, nullptr) != 1) continue;
      identity_ = name;
      allowed = true;
      break;
    }
    if (allowed && identity_.empty()) {
      char name[256] = "";
      X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
      identity_ = name;
    }
    X509_free(certificate);
    return allowed;
  }

  Moved Stopped(int result) {
    switch (SSL_get_error(ssl_, result)) {
      case SSL_ERROR_WANT_READ:
        wants_to_send_ = false;
        return {Outcome::kAgain, 0};
      case SSL_ERROR_WANT_WRITE:
        wants_to_send_ = true;
        return {Outcome::kAgain, 0};
      case SSL_ERROR_ZERO_RETURN:
        return {Outcome::kEnd, 0};
      default:
        // The end of the connection without TLS's own farewell as well.
        failed_ = true;
        return {Outcome::kFailed, 0};
    }
  }

  const TlsContext& context_;
  SSL* const ssl_;
  bool up_ = false;
  bool failed_ = false;
  bool wants_to_send_ = false;
  std::string identity_;
};

Result<std::shared_ptr<TlsContext>> TlsContext::Open(const TlsOptions& options) {
  const std::shared_ptr<TlsContext> tls(new TlsContext);
  ERR_clear_error();
  tls->context_ = SSL_CTX_new(TLS_server_method());
  if (!tls->context_) return TlsFailure("TLS", "no context");
  SSL_CTX* const context = tls->context_;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_passwd_cb(context, NoPassPhrase);
  Status status = options.psk.empty() ? tls->UseCertificate(options) : tls->UsePsk(options.psk);
  if (!status.ok()) return status;
  return tls;
}

Status TlsContext::UseCertificate(const TlsOptions& options) {
  if (auto key = OpenPrivate(options.key); !key.ok()) return key.status();
  if (SSL_CTX_use_certificate_chain_file(context_, options.certificate.c_str()) != 1)
    return TlsFailure(options.certificate, "this is no certificate in PEM form");
  if (SSL_CTX_use_PrivateKey_file(context_, options.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return TlsFailure(options.key, "this is no private key of the certificate, in PEM form and without pass phrase");
  allowed_names_ = options.allowed_names;
  if (options.client_ca.empty()) {
    return allowed_names_.empty()
               ? Ok()
               : Failure(Code::kArgument, "names of clients need an authority that signs their certificates");
  }
  STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(options.client_ca.c_str());
  if (!names || SSL_CTX_load_verify_locations(context_, options.client_ca.c_str(), nullptr) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return TlsFailure(options.client_ca, "these are no certificates in PEM form");
  }
  SSL_CTX_set_client_CA_list(context_, names);
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return Ok();
}

Status TlsContext::UsePsk(const std::string& path) {
  auto fd = OpenPrivate(path);
  if (!fd.ok()) return fd.status();
  std::string text(kPskFileBytesMax, '\0');
  size_t length = 0;
  while (length < text.size()) {
    const ssize_t count = read(fd.value().get(), text.data() + length, text.size() - length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemFailure(errno, "read");
    if (count == 0) break;
    length += static_cast<size_t>(count);
  }
  const auto malformed = [&](size_t line) {
    Wipe(text.data(), text.size());
    return Failure(Code::kArgument, path + ": line " + std::to_string(line) +
                                        " is not identity:key, the key 16 to 64 bytes in hexadecimal");
  };
  size_t line = 0;
  for (size_t at = 0; at < length;) {
    line += 1;
    const size_t end = std::min(text.find('\n', at), length);
    const std::string_view whole(text.data() + at, end - at);
    at = end + 1;
    if (whole.empty() || whole[0] == '#') continue;
    const size_t colon = whole.rfind(':');
    if (colon == std::string_view::npos || colon == 0) return malformed(line);
    const std::string_view digits = whole.substr(colon + 1);
    std::vector<uint8_t> key(digits.size() / 2);
    if (digits.size() % 2 != 0 || key.size() < kPskBytesMin || key.size() > kPskBytesMax) return malformed(line);
    for (size_t i = 0; i < key.size(); i++) {
      const int high = HexDigit(digits[2 * i]), low = HexDigit(digits[2 * i + 1]);
      if (high < 0 || low < 0) return malformed(line);
      key[i] = static_cast<uint8_t>(high << 4 | low);
    }
    keys_[std::string(whole.substr(0, colon))] = std::move(key);
  }
  Wipe(text.data(), text.size());
  if (keys_.empty()) return Failure(Code::kArgument, path + ": there is no key in this file");
  SSL_CTX_set_psk_server_callback(context_, TlsIo::FindKey);
  // TLS 1.2 without certificates; TLS 1.3 has one way only.
  if (SSL_CTX_set_cipher_list(context_,
                              "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:PSK-AES256-GCM-SHA384:"
                              "DHE-PSK-AES128-GCM-SHA256:PSK-AES128-GCM-SHA256") != 1)
    return TlsFailure(path, "no ciphers");
  return Ok();
}

TlsContext::~TlsContext() {
  SSL_CTX_free(context_);
  for (auto& [identity, key] : keys_) Wipe(key.data(), key.size());
}

std::unique_ptr<WireIo> TlsContext::Accept(int fd) const {
  ERR_clear_error();
  SSL* const ssl = SSL_new(context_);
  if (!ssl) return nullptr;
  if (SSL_set_fd(ssl, fd) != 1) {
    SSL_free(ssl);
    return nullptr;
  }
  SSL_set_accept_state(ssl);
  return std::make_unique<TlsIo>(*this, ssl);
}

}  // namespace volseal::nbd
