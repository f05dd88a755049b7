// Tests of the NBD protocol without Node and without sockets. `nbd_test --help` tells how to choose among them.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
