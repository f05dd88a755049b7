#include "engine/file_attributes.h"

#include <linux/fs.h>
#include <linux/limits.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace volseal::engine {
namespace {

constexpr std::string_view kAccessList = "system.posix_acl_access";
// They speak of the old contents: signatures and hashes, and rights of a program.
constexpr std::array<std::string_view, 3> kOfContents = {"security.ima", "security.evm", "security.capability"};

// The names of a file's extended attributes; none where the file system has no such thing.
Result<std::vector<std::string>> AttributeNames(int fd) {
  std::vector<char> text;
  for (;;) {
    const ssize_t needed = flistxattr(fd, nullptr, 0);
    if (needed < 0) {
      if (errno == EOPNOTSUPP || errno == ENOSYS) return std::vector<std::string>{};
      return SystemFailure(errno, "flistxattr");
    }
    text.resize(static_cast<size_t>(needed));
    const ssize_t length = flistxattr(fd, text.data(), text.size());
    if (length < 0 && errno == ERANGE) continue;  // it has got another one meanwhile
    if (length < 0) return SystemFailure(errno, "flistxattr");
    text.resize(static_cast<size_t>(length));
    break;
  }
  std::vector<std::string> names;
  for (auto at = text.begin(); at != text.end();) {
    const auto end = std::find(at, text.end(), '\0');
    names.emplace_back(at, end);
    at = end == text.end() ? end : end + 1;
  }
  return names;
}

// Whether the attribute is the same in `to` afterwards.
bool CopyAttribute(int from, int to, const std::string& name) {
  std::vector<char> value(XATTR_SIZE_MAX);
  const ssize_t length = fgetxattr(from, name.c_str(), value.data(), value.size());
  if (length < 0) return errno == ENODATA;
  return fsetxattr(to, name.c_str(), value.data(), static_cast<size_t>(length), 0) == 0;
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

Result<std::vector<std::string>> CopyAttributes(int from, int to) {
  struct stat old_info {};
  struct stat new_info {};
  if (fstat(from, &old_info) != 0 || fstat(to, &new_info) != 0) return SystemFailure(errno, "fstat");
  auto old_names = AttributeNames(from);
  if (!old_names.ok()) return old_names.status();
  auto new_names = AttributeNames(to);
  if (!new_names.ok()) return new_names.status();

  std::vector<std::string> lost;
  const bool keeps_group =
      old_info.st_gid == new_info.st_gid || fchown(to, static_cast<uid_t>(-1), old_info.st_gid) == 0;
  if (!keeps_group) lost.emplace_back("group");
  // The owner before the mode: chown(2) takes set-id bits away. Without the owner, the mode speaks of the new one.
  if (old_info.st_uid != new_info.st_uid && fchown(to, old_info.st_uid, static_cast<gid_t>(-1)) != 0)
    lost.emplace_back("owner");
  const bool has_list = Contains(old_names.value(), kAccessList);
  // A list that the directory gave to the new file (acl(5), default entries) says what the old one did not.
  if (!has_list && Contains(new_names.value(), kAccessList)) fremovexattr(to, kAccessList.data());
  const mode_t set_ids = lost.empty() ? S_ISUID | S_ISGID : 0;
  const mode_t kept = S_IRWXU | S_IRWXO | (keeps_group ? S_IRWXG : 0) | S_ISVTX | set_ids;
  if (fchmod(to, old_info.st_mode & kept) != 0) lost.emplace_back("mode");

  for (const std::string& name : old_names.value()) {
    if (std::find(kOfContents.begin(), kOfContents.end(), name) != kOfContents.end()) continue;
    const bool may_copy = name != kAccessList || keeps_group;
    if (!may_copy || !CopyAttribute(from, to, name)) lost.push_back(name);
  }
  return lost;
}

Result<bool> IsReadOnlyDevice(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return SystemFailure(errno, "fstat");
  if (!S_ISBLK(info.st_mode)) return false;
  int read_only = 0;
  if (ioctl(fd, BLKROGET, &read_only) != 0) return SystemFailure(errno, "ioctl(BLKROGET)");
  return read_only != 0;
}

}  // namespace volseal::engine
