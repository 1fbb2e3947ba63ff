#!/bin/sh
# Runs every test, those with real engines and registries too. On a fresh Debian or Ubuntu machine
# it installs what they need from the distribution (as root, or with sudo) and starts an engine of
# its own if none answers; what it started ends with it. Arguments go to `cargo test`.
#
#   tests/run.sh                        everything
#   tests/run.sh -p smartbuild main_job only what fits
#
# SMARTBUILD_TEST_DOCKER_HOST=unix://...  the engine to use, if it answers
# SMARTBUILD_TEST_BUILDKIT=DIRECTORY      where buildkitd and buildctl are, to test with them too
set -eu
cd "$(dirname "$0")/.."
. tests/machine.sh

need_toolchain install
programs="docker-registry:docker-registry htpasswd:apache2-utils openssl:openssl
    skopeo:skopeo buildah:buildah newuidmap:uidmap podman:podman
    ssh-agent:openssh-client busybox:busybox-static
    gnome-keyring-daemon:gnome-keyring dbus-run-session:dbus dbus-launch:dbus-x11
    git:git tmux:tmux secret-tool:libsecret-tools docker-credential-secretservice:golang-docker-credential-helpers"
# shellcheck disable=SC2086 # a list
packages=$(missing $programs)
if ! have docker || ! PATH=$PATH:/usr/sbin have dockerd; then
    packages="$packages $(engine_packages)"
fi
# shellcheck disable=SC2086 # a list
[ -z "${packages# }" ] || install_packages $packages

log=$(mktemp)
trap 'stop_engine; rm -f "$log" "$log.status"' EXIT
trap 'exit 130' INT TERM

engine_host=${SMARTBUILD_TEST_DOCKER_HOST:-${DOCKER_HOST:-unix:///var/run/docker.sock}}
if engine_answers "$engine_host"; then
    say "Using the engine at $engine_host."
else
    say "No engine of this machine answers at $engine_host: starting one for the tests."
    start_engine
    say "It listens at $engine_host and ends with the tests."
fi
export SMARTBUILD_TEST_DOCKER_HOST="$engine_host"

# What a test needs, it sets itself.
unset DOCKER_HOST DOCKER_CONFIG DOCKER_CONTEXT REGISTRY_AUTH_FILE

# Some tests mostly wait: for engines, registries, and the patience of retries.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) + 1))}"

[ $# -gt 0 ] || set -- --workspace
cargo build --workspace --bins
{
    cargo test --no-fail-fast "$@" -- --include-ignored && echo 0 >"$log.status" ||
        echo $? >"$log.status"
} 2>&1 </dev/null | tee "$log"

status=$(cat "$log.status")
if grep '^test result:' "$log" | grep -qv ' 0 ignored;'; then
    say "error: a test was skipped; here none may be"
    status=1
fi
passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")
say "$passed tests passed on $(DOCKER_HOST=$engine_host docker version --format \
    'Docker Engine {{.Server.Version}}')."
exit "$status"
