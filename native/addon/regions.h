// Regions of a volume, as binding.d.ts has them.
#pragma once

#include <napi.h>

#include <vector>

#include "engine/device_region.h"

namespace volseal::addon {

// 1 to 16 of them are what a volume has; whether there is one is the engine's to check. Throws as args.h.
std::vector<engine::DeviceRegion> RegionsOf(const Napi::Value& value);

}  // namespace volseal::addon
