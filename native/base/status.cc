#include "base/status.h"

#include <system_error>

namespace volseal {

Status SystemFailure(int error_number, const char* syscall, std::optional<uint64_t> offset_bytes, Code code) {
  std::string message = std::string(syscall) + " failed";
  if (offset_bytes) message += " at byte " + std::to_string(*offset_bytes);
  message += ": " + std::generic_category().message(error_number);
  return {code, std::move(message), error_number, syscall, offset_bytes};
}

}  // namespace volseal
