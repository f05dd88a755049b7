// Tests of the cipher without Node. `xts_test --help` tells how to choose among them.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "harness.h"

int main(int argc, char** argv) {
  std::printf("VOLSEAL_TEST_SEED=%llu VOLSEAL_TEST_EVERY=%zu\n",
              static_cast<unsigned long long>(volseal::xts_test::Seed()), volseal::xts_test::TestEvery());
  const int status = doctest::Context(argc, argv).run();
  volseal::xts_test::PrintCounts();
  return status;
}
