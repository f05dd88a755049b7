// Takes a key out of a JSON message before anything else sees it: KMS replies (and requests) carry it as base64 text.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "vault/vault.h"

namespace volseal::vault {

constexpr size_t kJsonBytesMax = 1024 * 1024;

struct JsonImport {
  std::optional<KeyHandle> key;  // none where the object has no such member
  std::vector<uint8_t> body;     // the message, the member's text overwritten with "A"; so is that of members of
                                 // the outermost object whose names differ from it in case alone
};

// What becomes of members of the same name in inner objects. They are never imported.
enum class Inner { kKeep, kRedact };

// `chunks` are the message in order; the caller zeroes them. Only a member of the outermost object is imported.
// kArgument: not JSON as far as the scan reads, the member twice or not a string of base64 for 1
// to 4096 bytes, too long.
Result<JsonImport> ImportFromJson(std::span<const MutableBytes> chunks, std::string_view member, Inner inner);

// Decodes `text` into the vault and overwrites it with "A" whatever happens.
Result<KeyHandle> ImportBase64(MutableBytes text);

}  // namespace volseal::vault
