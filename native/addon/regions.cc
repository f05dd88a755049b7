#include "addon/regions.h"

#include "addon/args.h"

namespace volseal::addon {
namespace {

constexpr uint32_t kRegionsMax = 16;

engine::DeviceRegion RegionOf(const Napi::Value& value) {
  const Napi::Object from = ObjectOf(value, "a region");
  engine::DeviceRegion region = {
      .fd = FileDescriptor(from.Get("fd"), "fd"),
      .key = {},
      .offset_bytes = WholeNumber(from.Get("offsetBytes"), "offsetBytes", 0, kExactIntegerMax),
      .size_bytes = WholeNumber(from.Get("sizeBytes"), "sizeBytes", 0, kExactIntegerMax),
  };
  if (const Napi::Value key = from.Get("key"); !key.IsUndefined()) region.key = HandleOf(key, "key");
  return region;
}

}  // namespace

std::vector<engine::DeviceRegion> RegionsOf(const Napi::Value& value) {
  if (!value.IsArray()) ThrowArgument(value.Env(), "regions is not an array");
  const auto list = value.As<Napi::Array>();
  if (list.Length() > kRegionsMax) ThrowArgument(value.Env(), "a volume has 16 regions at most");
  std::vector<engine::DeviceRegion> regions;
  for (uint32_t i = 0; i < list.Length(); ++i) regions.push_back(RegionOf(list.Get(i)));
  return regions;
}

}  // namespace volseal::addon
