# shellcheck shell=sh
# What a machine must have, and an engine where none answers. Read by install.sh and tests/run.sh:
# functions only, nothing happens by reading it.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, as the system's services and packages need it.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root for: $*. Run it as root, or install sudo."
    fi
}

# ask QUESTION: yes where there is nobody to ask.
ask() {
    if ! { [ -t 0 ] && [ -t 2 ]; }; then
        return 0
    fi
    printf '%s [Y/n] ' "$1" >&2
    read -r answer || return 1
    case $answer in [Nn]*) return 1 ;; *) return 0 ;; esac
}

# missing PROGRAM:PACKAGE...: the packages whose programs are not there.
missing() {
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin have "${pair%%:*}" || printf '%s ' "${pair#*:}"
    done
}

# install_packages PACKAGE...: from the distribution. What they bring starts no service: we start
# what we need, and end it.
install_packages() {
    have apt-get || die "these packages are missing, and only apt-get is known here: $*. \
Install them with your system's package manager, then run this again."
    say "Installing from the distribution: $*"
    quiet_policy=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        quiet_policy=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 755 /usr/sbin/policy-rc.d
    fi
    apt_log=$(mktemp)
    apt_done=yes
    {
        as_root apt-get update &&
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install --yes --no-install-recommends "$@"
    } </dev/null >"$apt_log" 2>&1 || apt_done=no
    [ -z "$quiet_policy" ] || as_root rm -f /usr/sbin/policy-rc.d
    if [ "$apt_done" = no ]; then
        tail -n 30 "$apt_log" >&2
        rm -f "$apt_log"
        die "apt-get could not install: $*"
    fi
    rm -f "$apt_log"
}

# The packages of an engine. Newer distributions have the docker program, and its way to build with
# BuildKit, in packages of their own.
engine_packages() {
    echo docker.io iproute2 procps
    for package in docker-cli docker-buildx; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            echo "$package"
        fi
    done
}

# Whether a Docker Engine of this machine answers at this address. One elsewhere does not count:
# it could not reach the registries that listen on our loopback.
engine_answers() {
    case $1 in unix://*) ;; *) return 1 ;; esac
    have docker && DOCKER_HOST=$1 docker version >/dev/null 2>&1
}

# start_engine: starts containerd and dockerd beside whatever runs already: sockets, data, network
# bridge and process ids of their own, and no rule of the firewall touched. Sets engine_host.
start_engine() {
    PATH=$PATH:/usr/sbin:/sbin
    have dockerd || die "there is no dockerd here; install docker.io"
    engine_dir=$(mktemp -d /var/tmp/smartbuild-engine.XXXXXX)
    chmod 711 "$engine_dir"
    engine_bridge=sb$$
    engine_host=unix://$engine_dir/docker.sock
    trace="$engine_dir/containerd.log $engine_dir/dockerd.log"

    net=200
    while ip -4 route show 2>/dev/null | grep -q "192\.168\.$net\."; do net=$((net + 1)); done
    as_root ip link add name "$engine_bridge" type bridge ||
        die "a network bridge could not be made; the engine needs one (are we in a container \
without the right to?)"
    as_root ip addr add "192.168.$net.1/24" dev "$engine_bridge"
    as_root ip link set "$engine_bridge" up

    cat >"$engine_dir/containerd.toml" <<END
version = 2
root = "$engine_dir/containerd"
state = "$engine_dir/containerd-run"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$engine_dir/containerd.sock"
END
    # The configuration of a system's own dockerd must not reach ours. A push that a registry leaves
    # hanging keeps one of the five places that an engine has for uploads: the tests have many at once.
    echo '{ "max-concurrent-uploads": 100 }' >"$engine_dir/daemon.json"
    as_root sh -c "
        setsid containerd --config '$engine_dir/containerd.toml' \
            </dev/null >'$engine_dir/containerd.log' 2>&1 &
        echo \$! >'$engine_dir/containerd.pid'"
    wait_for 60 as_root test -S "$engine_dir/containerd.sock" || engine_failed
    as_root sh -c "
        setsid dockerd --config-file '$engine_dir/daemon.json' --host '$engine_host' \
            --group '$(id -g)' --data-root '$engine_dir/data' --exec-root '$engine_dir/run' \
            --pidfile '$engine_dir/docker.pid' --containerd '$engine_dir/containerd.sock' \
            --bridge '$engine_bridge' --iptables=false --ip-forward=false --ip-masq=false \
            </dev/null >'$engine_dir/dockerd.log' 2>&1 &
        echo \$! >'$engine_dir/dockerd.pid'"
    wait_for 60 engine_answers "$engine_host" || engine_failed
}

# Whether an engine of ours could be started here: not without rights, nor in a container that has
# none to give.
can_start_engine() {
    { [ "$(id -u)" -eq 0 ] || have sudo; } && as_root unshare --mount true 2>/dev/null
}

engine_failed() {
    # shellcheck disable=SC2086 # two names
    tail -n 20 $trace >&2
    die "the engine did not start; its last words are above"
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    tries=$(($1 * 5))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.2
    done
}

# end PIDFILE: asks a process to end, and waits until it has.
end() {
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    as_root kill "$pid" 2>/dev/null || return 0
    wait_for 30 is_gone "$pid" || as_root kill -9 "$pid" 2>/dev/null || :
}

is_gone() { [ ! -d "/proc/$1" ]; }

# Ends what start_engine started; harmless where it started nothing.
stop_engine() {
    [ -n "${engine_dir:-}" ] || return 0
    end "$engine_dir/dockerd.pid"
    end "$engine_dir/containerd.pid"
    as_root ip link delete "$engine_bridge" 2>/dev/null || :
    sed -n "s|^[^ ]* \($engine_dir[^ ]*\) .*|\1|p" /proc/mounts | sort -r |
        while read -r mount; do as_root umount "$mount" 2>/dev/null || :; done
    as_root rm -rf "$engine_dir"
    engine_dir=
}

# need_toolchain [install]: what is needed to build. A C compiler is installed where that is asked
# for; otherwise, and for Rust, it says how to get it.
need_toolchain() {
    # Where rustup puts it, for a shell that has not been told.
    if ! have cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    have cargo || die "cargo is missing. Install Rust with rustup, as https://rustup.rs says \
(it brings the version that rust-toolchain.toml asks for), then run this again."
    if ! have cc && [ "${1:-}" = install ] && have apt-get; then
        install_packages gcc libc6-dev
    fi
    have cc || die "a C compiler is missing (two dependencies have C in them). \
On Debian and Ubuntu: apt-get install gcc libc6-dev. On macOS: xcode-select --install."
}
