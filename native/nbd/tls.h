// TLS for NBD clients, by the OpenSSL inside Node: certificates, or keys that both sides know (PSK).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "nbd/wire_io.h"

// Of <openssl/ssl.h>.
struct ssl_ctx_st;
struct ssl_st;

namespace volseal::nbd {

struct TlsOptions {
  // Paths of PEM files; or, where `psk` is set, nothing.
  std::string certificate;
  std::string key;
  std::string client_ca;                   // empty: clients need no certificate
  std::vector<std::string> allowed_names;  // empty: any name that client_ca has signed
  std::string psk;                         // path of a file with lines identity:hexadecimal
};

class TlsContext {
 public:
  static Result<std::shared_ptr<TlsContext>> Open(const TlsOptions& options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // The server's side of TLS on a connected socket; this context must outlive it. nullptr where there is no memory.
  std::unique_ptr<WireIo> Accept(int fd) const;

 private:
  friend class TlsIo;
  TlsContext() = default;
  Status UseCertificate(const TlsOptions& options);
  Status UsePsk(const std::string& path);

  ssl_ctx_st* context_ = nullptr;
  std::vector<std::string> allowed_names_;
  std::map<std::string, std::vector<uint8_t>> keys_;  // by identity
};

}  // namespace volseal::nbd
