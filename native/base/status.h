// How a call went. No exception crosses the layers below addon/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace volseal {

// The subset of src/errors.ts that the addon can cause; addon/ spells the code out for JavaScript.
enum class Code {
  kOk,
  kArgument,
  kBusy,
  kDetached,
  kIo,
  kKeyGone,
  kMemoryLock,
  kPoisoned,
  kReadOnly,
  kResume,
  kSelfTest,
  kStopped,
};

struct [[nodiscard]] Status {
  Code code = Code::kOk;
  std::string message;
  int error_number = 0;                  // errno, for kIo, kBusy and kMemoryLock
  const char* syscall = nullptr;         // its name, a literal
  std::optional<uint64_t> offset_bytes;  // where in the file

  bool ok() const { return code == Code::kOk; }
};

inline Status Ok() { return {}; }
inline Status Failure(Code code, std::string message) { return {code, std::move(message), 0, nullptr, std::nullopt}; }

// A system call that failed with errno `error_number`: "pwrite failed at byte 4096: No space left on device".
Status SystemFailure(int error_number, const char* syscall, std::optional<uint64_t> offset_bytes = std::nullopt,
                     Code code = Code::kIo);

// A value, or why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::move(value)) {}           // NOLINT: meant to convert
  Result(Status failure) : content_(std::move(failure)) {}  // NOLINT: meant to convert
  bool ok() const { return std::holds_alternative<T>(content_); }
  T& value() { return std::get<T>(content_); }
  const Status& status() const { return std::get<Status>(content_); }

 private:
  std::variant<T, Status> content_;
};

}  // namespace volseal
