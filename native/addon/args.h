// JavaScript's arguments, checked once and turned into plain values; and Status turned into a thrown Error.
// Nothing below addon/ sees napi.h. Each function throws a Napi::Error whose `code` is one of src/errors.ts.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/status.h"

namespace volseal::addon {

// A failure as JavaScript's error.
Napi::Error ErrorOf(Napi::Env env, const Status& status);

// Throws where `status` is a failure.
void ThrowUnlessOk(Napi::Env env, const Status& status);

// The value, or the failure thrown.
template <typename T>
T ValueOrThrow(Napi::Env env, Result<T> result) {
  if (!result.ok()) ThrowUnlessOk(env, result.status());
  return std::move(result.value());
}

[[noreturn]] void ThrowArgument(Napi::Env env, const std::string& message);

bool IsBytes(const Napi::Value& value);  // Uint8Array or Buffer

// `what` names the argument in the message.
MutableBytes BytesOf(const Napi::Value& value, const char* what);
void ThrowIfOverlapping(Napi::Env env, Bytes source, Bytes target);
uint64_t WholeNumber(const Napi::Value& value, const char* what, uint64_t min, uint64_t max);  // at most 2^53 - 1
bool BooleanOf(const Napi::Value& value, const char* what);
std::string TextOf(const Napi::Value& value, const char* what);
uint64_t HandleOf(const Napi::Value& value, const char* what);
int FileDescriptor(const Napi::Value& value, const char* what);
Napi::Object ObjectOf(const Napi::Value& value, const char* what);

// Limits of what a file offset and an image may be.
constexpr uint64_t kExactIntegerMax = (uint64_t{1} << 53) - 1;

Napi::Value FromHandle(Napi::Env env, uint64_t handle);

[[noreturn]] void ThrowTableFull(Napi::Env env, const char* what);

// A new handle in `table`, a HandleTable; throws where it is full. `what` is in it, in the plural.
template <typename Table, typename T>
uint64_t HandleIn(Napi::Env env, Table& table, std::shared_ptr<T> object, const char* what) {
  const uint64_t handle = table.Add(std::move(object));
  if (handle == 0) ThrowTableFull(env, what);
  return handle;
}

}  // namespace volseal::addon
