#include "addon/args.h"

#include <uv.h>

#include <climits>
#include <cmath>
#include <cstring>

#include "base/handle_table.h"

namespace volseal::addon {
namespace {

// The one map from Status to src/errors.ts.
const char* NameOf(Code code) {
  switch (code) {
    case Code::kOk:
      break;
    case Code::kArgument:
      return "ERR_ARGUMENT";
    case Code::kBusy:
      return "ERR_STATE_BUSY";
    case Code::kDetached:
      return "ERR_STATE_DETACHED";
    case Code::kIo:
      return "ERR_IO";
    case Code::kKeyGone:
      return "ERR_KEY_GONE";
    case Code::kMemoryLock:
      return "ERR_MEMORY_LOCK";
    case Code::kPoisoned:
      return "ERR_STATE_POISONED";
    case Code::kReadOnly:
      return "ERR_STATE_READ_ONLY";
    case Code::kSelfTest:
      return "ERR_SELF_TEST";
  }
  return "ERR_ARGUMENT";
}

// "ENOSPC". Older C libraries have no names: libuv, which Node exports, has.
std::string NameOfErrno(int error_number) { return uv_err_name(-error_number); }

}  // namespace

void ThrowUnlessOk(Napi::Env env, const Status& status) {
  if (status.ok()) return;
  Napi::Error error = Napi::Error::New(env, status.message);
  // Defined, not set: no setter that somebody put on Error.prototype runs here, where keys may be pinned.
  const auto define = [&error](const char* name, Napi::Value value) {
    error.Value().DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_default_jsproperty));
  };
  define("code", Napi::String::New(env, NameOf(status.code)));
  if (status.error_number != 0) define("errno", Napi::String::New(env, NameOfErrno(status.error_number)));
  if (status.syscall) define("syscall", Napi::String::New(env, status.syscall));
  if (status.offset_bytes) define("offsetBytes", Napi::Number::New(env, static_cast<double>(*status.offset_bytes)));
  throw error;
}

void ThrowArgument(Napi::Env env, const std::string& message) {
  ThrowUnlessOk(env, Failure(Code::kArgument, message));
  std::abort();  // not reached: the line above throws
}

bool IsBytes(const Napi::Value& value) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
}

MutableBytes BytesOf(const Napi::Value& value, const char* what) {
  if (!IsBytes(value)) ThrowArgument(value.Env(), std::string(what) + " is not a Uint8Array");
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ElementLength()};
}

void ThrowIfOverlapping(Napi::Env env, Bytes source, Bytes target) {
  const bool apart = source.data() + source.size() <= target.data() || target.data() + target.size() <= source.data();
  if (!apart) ThrowArgument(env, "source and target overlap in part");
}

uint64_t WholeNumber(const Napi::Value& value, const char* what, uint64_t min, uint64_t max) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (number >= static_cast<double>(min) && number <= static_cast<double>(max) && number == std::floor(number)) {
      return static_cast<uint64_t>(number);
    }
  }
  ThrowArgument(value.Env(), std::string(what) + " is not a whole number from " + std::to_string(min) + " to " +
                                 std::to_string(max));
}

bool BooleanOf(const Napi::Value& value, const char* what) {
  if (!value.IsBoolean()) ThrowArgument(value.Env(), std::string(what) + " is not a boolean");
  return value.As<Napi::Boolean>();
}

std::string TextOf(const Napi::Value& value, const char* what) {
  if (!value.IsString()) ThrowArgument(value.Env(), std::string(what) + " is not a string");
  return value.As<Napi::String>();
}

uint64_t HandleOf(const Napi::Value& value, const char* what) { return WholeNumber(value, what, 0, kHandleMax); }

int FileDescriptor(const Napi::Value& value, const char* what) {
  return static_cast<int>(WholeNumber(value, what, 0, INT_MAX));
}

Napi::Value FromHandle(Napi::Env env, uint64_t handle) { return Napi::Number::New(env, static_cast<double>(handle)); }

}  // namespace volseal::addon
