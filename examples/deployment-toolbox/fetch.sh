#!/bin/sh
# fetch URL FILE SHA256: gets a file, and fails unless it is the one that is meant.
set -eu
[ -n "$3" ] || {
    echo "the checksum of $1 is not filled in; the Dockerfile says where to find it" >&2
    exit 1
}
wget --quiet --output-document="$2" "$1"
echo "$3  $2" | sha256sum --check --quiet
