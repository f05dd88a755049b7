// Makes the fault that its argument names: what a sanitizer must report, or no report means nothing.
#include <cstdlib>
#include <string>
#include <thread>

namespace {

int shared = 0;

void OverrunHeap() {
  const volatile size_t length = 64;
  volatile char* const bytes = static_cast<char*>(std::malloc(length));
  bytes[length] = 1;
}

void Overflow(int count) {
  const volatile int most = 2147483647;
  const volatile int sum = most + count;
  (void)sum;
}

void Race() {
  std::thread other([] { ++shared; });
  ++shared;
  other.join();
}

}  // namespace

int main(int count, char** arguments) {
  const std::string fault = count > 1 ? arguments[1] : "";
  if (fault == "heap-buffer-overflow") OverrunHeap();
  if (fault == "signed integer overflow") Overflow(count);
  if (fault == "data race") Race();
  return 0;
}
