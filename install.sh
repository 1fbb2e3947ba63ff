#!/bin/sh
# Builds smartbuild and docker-credential-aliyun and installs them. See --help.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tests/machine.sh"

usage() {
    cat <<'END'
Usage: ./install.sh [OPTION]...

Builds smartbuild and docker-credential-aliyun and installs both into ~/.local/bin, with their manual
pages and completion scripts in ~/.local/share. Safe to run again: it replaces what it installed before.

  --prefix DIR          install into DIR/bin instead
  --configure HOST...   also let Docker ask docker-credential-aliyun for these registries
                        (credHelpers in Docker's config.json; the rest of the file stays)
  --demo                also show the programs at work: a build, then a build that is skipped,
                        on a registry of its own that ends with the demonstration
  --uninstall           remove both programs, and what --configure set
  --help                show this
END
}

prefix=$HOME/.local
demo=
hosts=
uninstall=
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        [ $# -ge 2 ] || die "--prefix needs a directory"
        case $2 in /*) prefix=$2 ;; *) prefix=$PWD/$2 ;; esac
        shift
        ;;
    --prefix=*) die "write --prefix DIR, with a space" ;;
    --configure)
        while [ $# -ge 2 ]; do
            case $2 in
            -*) break ;;
            *[!A-Za-z0-9.:_-]*) die "$2 is not a registry's host, such as registry.cn-hangzhou.aliyuncs.com" ;;
            esac
            hosts="$hosts $2"
            shift
        done
        [ -n "$hosts" ] || die "--configure needs the host of a registry, such as registry.cn-hangzhou.aliyuncs.com"
        ;;
    --demo) demo=yes ;;
    --uninstall) uninstall=yes ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        usage >&2
        die "unknown option: $1"
        ;;
    esac
    shift
done
bin=$prefix/bin
programs="smartbuild docker-credential-aliyun"

# extras PROGRAM: where its manual page and completion scripts are, and the words that print each.
extras() {
    echo "$prefix/share/man/man1/$1.1 man"
    echo "$prefix/share/bash-completion/completions/$1 completions bash"
    echo "$prefix/share/zsh/site-functions/_$1 completions zsh"
    echo "$prefix/share/fish/vendor_completions.d/$1.fish completions fish"
}

if [ -n "$uninstall" ]; then
    helper=$bin/docker-credential-aliyun
    # Docker must not go on asking a program that is gone, unless there is another one of it.
    case $(command -v docker-credential-aliyun || :) in
    "$helper" | "")
        [ ! -x "$helper" ] || "$helper" configure --remove ||
            say "Look into the file yourself: clients must not go on asking docker-credential-aliyun."
        ;;
    esac
    for program in $programs; do
        if [ -e "$bin/$program" ]; then
            rm -f "$bin/$program"
            say "Removed $bin/$program."
        else
            say "There is no $bin/$program."
        fi
        extras "$program" | while read -r file _; do rm -f "$file"; done
    done
    exit
fi

need_toolchain "${demo:+install}"
say "Building smartbuild and docker-credential-aliyun; the first time this takes some minutes."
(cd "$here" && cargo build --release --locked --workspace --bins)
mkdir -p "$bin" || die "$bin cannot be made; choose another place with --prefix"
for program in $programs; do
    # First beside, then into place: whoever starts the program meanwhile gets the old one or the
    # new one, whole.
    built=${CARGO_TARGET_DIR:-$here/target}/release/$program
    { cp "$built" "$bin/.$program.$$" && mv -f "$bin/.$program.$$" "$bin/$program"; } ||
        die "$bin/$program cannot be written; choose another place with --prefix"
    extras "$program" | while read -r file words; do
        # shellcheck disable=SC2086 # words
        { mkdir -p "${file%/*}" && "$bin/$program" $words >"$file"; } 2>/dev/null ||
            say "$file cannot be written; the programs work without it."
    done
done
say "Installed $("$bin/smartbuild" --version) and docker-credential-aliyun in $bin."
case :$PATH: in
*:"$bin":*) ;;
*)
    say "$bin is not in your PATH. Add it, for example in ~/.profile:"
    # shellcheck disable=SC2016 # the shell that reads ~/.profile expands it
    say "    export PATH=\"$bin:"'$PATH"'
    ;;
esac

if [ -n "$hosts" ]; then
    # shellcheck disable=SC2086 # a list
    "$bin/docker-credential-aliyun" configure $hosts
fi

[ -z "$demo" ] || . "$here/examples/hello/demo.sh"
