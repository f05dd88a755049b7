#include "engine/crypt_sectors.h"

#include "engine/zeros.h"
#include "xts/dispatch.h"
#include "xts/xts.h"

namespace volseal::engine {

Status CryptSectors(vault::KeyHandle handle, bool encrypts, uint64_t position, uint32_t sector_bytes, Zeros zeros,
                    MutableBytes sectors) {
  auto key = vault::Vault::OfProcess().PinVolumeKey(handle);
  if (!key.ok()) return key.status();
  const xts::Kernel& kernel = xts::ActiveKernel();
  const auto crypt = [&](size_t at, size_t length) {
    uint8_t* const data = sectors.data() + at;
    const xts::SectorRun run = {(position + at) / xts::kTweakUnitBytes, sector_bytes, length / sector_bytes};
    (encrypts ? kernel.encrypt : kernel.decrypt)(key.value().schedule(), data, data, run);
    return Ok();
  };
  return zeros == Zeros::kKept ? ForEachDataRun(sectors, sector_bytes, crypt) : crypt(0, sectors.size());
}

}  // namespace volseal::engine
