#include "addon/args.h"

#include <uv.h>

#include <cerrno>
#include <climits>
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
    case Code::kResume:
      return "ERR_RESUME";
    case Code::kSelfTest:
      return "ERR_SELF_TEST";
    case Code::kStopped:
      return "ERR_ABORTED";
  }
  return "ERR_ARGUMENT";
}

// "ENOSPC". Older C libraries have no names; libuv, which Node exports, has most.
std::string NameOfErrno(int error_number) {
  switch (error_number) {
    case EDQUOT:
      return "EDQUOT";
    case ENOLCK:
      return "ENOLCK";
    case ESTALE:
      return "ESTALE";
    case EUCLEAN:
      return "EUCLEAN";
    default:
      return uv_err_name(-error_number);
  }
}

// Apart from WholeNumber, which would set up this function's frame on every call.
[[noreturn]] __attribute__((noinline)) void ThrowNotWhole(Napi::Env env, const char* what, uint64_t min, uint64_t max) {
  ThrowArgument(
      env, std::string(what) + " is not a whole number from " + std::to_string(min) + " to " + std::to_string(max));
}

}  // namespace

Napi::Error ErrorOf(Napi::Env env, const Status& status) {
  Napi::Error error = Napi::Error::New(env, status.message);
  // Defined, not set: no setter that somebody put on Error.prototype runs here, where keys may be pinned.
  const auto define = [&error](const char* name, Napi::Value value) {
    error.Value().DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_default_jsproperty));
  };
  define("code", Napi::String::New(env, NameOf(status.code)));
  if (status.error_number != 0) define("errno", Napi::String::New(env, NameOfErrno(status.error_number)));
  if (status.syscall) define("syscall", Napi::String::New(env, status.syscall));
  if (status.offset_bytes) define("offsetBytes", Napi::Number::New(env, static_cast<double>(*status.offset_bytes)));
  return error;
}

void ThrowUnlessOk(Napi::Env env, const Status& status) {
  if (!status.ok()) throw ErrorOf(env, status);
}

void ThrowArgument(Napi::Env env, const std::string& message) {
  ThrowUnlessOk(env, Failure(Code::kArgument, message));
  std::abort();  // not reached: the line above throws
}

bool IsBytes(const Napi::Value& value) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
}

// One call of Node's interface an argument, here and below: a call of the cipher over one sector takes 100 ns in all.
MutableBytes BytesOf(const Napi::Value& value, const char* what) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  const napi_status status = napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr);
  if (status != napi_ok || type != napi_uint8_array) {
    ThrowArgument(value.Env(), std::string(what) + " is not a Uint8Array");
  }
  return {static_cast<uint8_t*>(data), length};
}

void ThrowIfOverlapping(Napi::Env env, Bytes source, Bytes target) {
  const bool apart = source.data() + source.size() <= target.data() || target.data() + target.size() <= source.data();
  if (!apart) ThrowArgument(env, "source and target overlap in part");
}

uint64_t WholeNumber(const Napi::Value& value, const char* what, uint64_t min, uint64_t max) {
  double number;
  if (napi_get_value_double(value.Env(), value, &number) == napi_ok && number >= 0 && number <= kExactIntegerMax) {
    const auto whole = static_cast<int64_t>(number);
    const auto result = static_cast<uint64_t>(whole);
    if (static_cast<double>(whole) == number && result >= min && result <= max) return result;
  }
  ThrowNotWhole(value.Env(), what, min, max);
}

bool BooleanOf(const Napi::Value& value, const char* what) {
  bool result;
  if (napi_get_value_bool(value.Env(), value, &result) != napi_ok) {
    ThrowArgument(value.Env(), std::string(what) + " is not a boolean");
  }
  return result;
}

std::string TextOf(const Napi::Value& value, const char* what) {
  if (!value.IsString()) ThrowArgument(value.Env(), std::string(what) + " is not a string");
  return value.As<Napi::String>();
}

uint64_t HandleOf(const Napi::Value& value, const char* what) { return WholeNumber(value, what, 0, kHandleMax); }

int FileDescriptor(const Napi::Value& value, const char* what) {
  return static_cast<int>(WholeNumber(value, what, 0, INT_MAX));
}

Napi::Object ObjectOf(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) ThrowArgument(value.Env(), std::string(what) + " is not an object");
  return value.As<Napi::Object>();
}

void ThrowTableFull(Napi::Env env, const char* what) {
  Status full = SystemFailure(EMFILE, "open");
  full.message = std::string("too many open ") + what + ": " + std::to_string(kHandleIndexEnd);
  throw ErrorOf(env, full);
}

Napi::Value FromHandle(Napi::Env env, uint64_t handle) { return Napi::Number::New(env, static_cast<double>(handle)); }

}  // namespace volseal::addon
