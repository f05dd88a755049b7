#!/usr/bin/env bash
# Makes a Debian 12 machine with Node ready to build and run volseal; with --test, to test it as well.
#
#   scripts/setup.sh [--test] [--prebuilt FILE]
#
# Installs what is missing through apt-get (with sudo where it has to), then the packages of package-lock.json; npm's
# own life cycle compiles the addon and the TypeScript. Safe to run again: where nothing is missing it takes seconds and
# asks for no rights.
#
# --prebuilt takes the addon from FILE, the npm package of a release (volseal-VERSION.tgz) with the same C++ sources:
# then no compiler is needed, and no rights.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# command:package, file:package where there is no command, or static/command:package for a program without shared
# libraries. They are looked for rather than the packages, so that what was installed in another way counts.
build_needs=(cmake:cmake g++:g++ make:make mkfs.ext4:e2fsprogs)
test_needs=(
  cryptsetup:cryptsetup-bin qemu-img:qemu-utils /usr/bin/aws:awscli strace:strace setfattr:attr setfacl:acl
  clang-format:clang-format
  qemu-system-x86_64:qemu-system-x86 static/busybox:busybox-static cpio:cpio depmod:kmod flock:util-linux git:git man:man-db
  openssl:openssl curl:curl fio:fio /usr/bin/time:time script:bsdutils setpriv:util-linux mkfifo:coreutils zstd:zstd
  nbdkit:nbdkit nbdinfo:libnbd-bin nbdcopy:libnbd-bin nbdsh:python3-libnbd nbdfuse:libnbd-bin fusermount3:fuse3
  qrencode:qrencode nbd-client:nbd-client bindfs:bindfs ip:iproute2
  redis-server:redis-server redis-cli:redis-tools /usr/lib/postgresql/15/bin/postgres:postgresql
  xz:xz-utils bzip2:bzip2 sfdisk:fdisk losetup:mount zsh:zsh fish:fish
  valgrind:valgrind /usr/include/doctest/doctest.h:doctest-dev /usr/include/valgrind/memcheck.h:valgrind
  /usr/include/openssl/evp.h:libssl-dev
  aarch64-linux-gnu-g++:g++-aarch64-linux-gnu qemu-aarch64:qemu-user /lib/ld-musl-x86_64.so.1:musl
  /usr/lib/python3/dist-packages/boto3/__init__.py:python3-boto3
  clang++:clang /usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.fuzzer-x86_64.a:libclang-rt-14-dev
)

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

with_tests=false
prebuilt=
while (($# > 0)); do
  case $1 in
    --test) with_tests=true ;;
    --prebuilt) prebuilt=${2:?"--prebuilt needs a file"}; shift ;;
    *) echo "usage: scripts/setup.sh [--test] [--prebuilt FILE]" >&2; exit 2 ;;
  esac
  shift
done

# Runs a command whose output is shown if it fails. While it runs, the last line of that is shown every five seconds.
quietly() {
  local log status=0 began=$SECONDS said=0 command
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null &
  command=$!
  # Bash lets what runs in the background ignore Ctrl-C.
  trap 'kill "$command" 2>/dev/null; rm -f "$log"; exit 130' INT TERM
  while kill -0 "$command" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - began >= said + 5)); then
      said=$((SECONDS - began))
      say "  ${said} s: $(so_far "$log")"
    fi
  done
  wait "$command" || status=$?
  trap - INT TERM
  if ((status != 0)); then
    cat "$log" >&2
    printf 'setup: failed with status %d: %s\n' "$status" "$*" >&2
  fi
  rm -f "$log"
  return "$status"
}

# What a log says last, as much as fits a line, without colours and what moves the cursor. npm says nothing while it
# unpacks what it has in its cache.
so_far() {
  local line
  line=$(tail -c 2000 "$1" | tr '\r' '\n' | sed 's/\x1b\[[0-9;]*[A-Za-z]//g' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c 1-100) || true
  [[ -n $line ]] || line="$(du -sm node_modules 2>/dev/null | cut -f 1) MB in node_modules"
  printf '%s' "$line"
}

# Sets `privileged`: what goes before a command that only root may run.
privileged=()
become_root_for() {
  ((EUID == 0)) && return
  command -v sudo >/dev/null || fail "needs root to $*: run it as root, or install sudo; without either, --prebuilt FILE takes the addon from the npm package of a release, and nothing else needs root"
  privileged=(sudo)
}

lists_are_fresh=false
refresh_lists() {
  $lists_are_fresh && return
  become_root_for "refresh the package lists"
  say "refreshing the package lists"
  quietly "${privileged[@]}" apt-get update -qq
  lists_are_fresh=true
}

check_node() {
  command -v node >/dev/null || fail "Node 20.17 or later is needed and no node is in the PATH: see https://nodejs.org/en/download"
  command -v npm >/dev/null || fail "npm is needed (it comes with Node's own distributions)"
  node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 17) ? 0 : 1)' ||
    fail "Node 20.17 or later is needed, this one is $(node --version)"
}

# System directories come first: a tool of the same name elsewhere may be another program.
has() {
  local path="/usr/sbin:/usr/bin:/sbin:/bin:$PATH" program
  case $1 in
    /*) [[ -e $1 ]] ;;
    static/*)
      # The package busybox has the same command as busybox-static, but with shared libraries, which the guest lacks.
      program=$(PATH=$path command -v "${1#static/}") && ! ldd "$program" 2>/dev/null | grep -q "=>"
      ;;
    *) PATH=$path command -v "$1" >/dev/null ;;
  esac
}

install_needs() {
  local missing=() need
  for need in "$@"; do
    has "${need%%:*}" || missing+=("${need##*:}")
  done
  ((${#missing[@]} == 0)) && return
  command -v apt-get >/dev/null || fail "these Debian packages (or your system's like) are missing: ${missing[*]}"
  become_root_for "install ${missing[*]}"
  refresh_lists
  say "installing ${missing[*]}"
  quietly "${privileged[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# npm ci writes node_modules/.package-lock.json last, so a newer lock file means that it has to run again.
install_packages() {
  if [[ node_modules/.package-lock.json -nt package-lock.json && node_modules/.package-lock.json -nt package.json ]]; then
    [[ -n $prebuilt ]] || CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)} quietly npm run --silent build:native
    quietly node scripts/build-if-needed.mjs
  else
    say "installing npm packages, ${prebuilt:+with the addon of $prebuilt, }then compiling"
    # Each package and each line of the compilers is a line of the log.
    quietly npm ci --include=dev --no-audit --no-fund --loglevel=http --foreground-scripts
  fi
}

# Other versions of Node, for the tests that volseal runs on each of them.
install_nodes() {
  [[ test/nodes/node_modules/.package-lock.json -nt test/nodes/package-lock.json ]] && return
  say "installing other versions of Node for the tests"
  quietly npm ci --prefix test/nodes --no-audit --no-fund
}

check_node
needs=()
if [[ -n $prebuilt ]]; then
  node scripts/take-prebuilt.mjs "$prebuilt"
  # One that was compiled here would come first.
  rm -f build/Release/volseal.node
else
  needs+=("${build_needs[@]}")
fi
if $with_tests; then needs+=("${test_needs[@]}"); fi
install_needs "${needs[@]}"
install_packages
if $with_tests; then install_nodes; fi
if $with_tests && [[ $(uname -m) == x86_64 ]] && ! test/interop/linux-guest --is-prepared; then
  # The guest's kernel is downloaded as a package file and never installed: only the package lists must be there.
  refresh_lists
  say "preparing the Linux guest"
  quietly test/interop/linux-guest --prepare
fi
say "ready: npm run demo shows an image there and back; npm link puts volseal on your PATH"
