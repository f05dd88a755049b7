// Loaded in the addon's place: makes the fault that FAULT names. A sanitizer must report it, or no report of the addon
// means nothing.
#include <cstdlib>
#include <string_view>

extern "C" int napi_register_module_v1(void*, void*) {
  const char* const fault = std::getenv("FAULT");
  if (fault == nullptr) return 0;
  if (fault == std::string_view("heap-buffer-overflow")) {
    const volatile size_t length = 64;
    volatile char* const bytes = static_cast<char*>(std::malloc(length));
    bytes[length] = 1;
  } else {
    const volatile int most = 2147483647;
    const volatile int sum = most + 1;
    (void)sum;
  }
  return 0;
}
