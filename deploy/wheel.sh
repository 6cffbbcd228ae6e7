#!/usr/bin/env bash
# Builds the wheel of the commit at hand twice, in folders of two names, with two umasks and time zones, and fails unless
# the bytes are the same. The first goes to the folder given. PYTHON has the locked build requirements.
set -euo pipefail

out="${1:?where to}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# What archives date their members by: the commit, not the clock.
SOURCE_DATE_EPOCH="$(git -C "$root" log -1 --format=%ct)"
export SOURCE_DATE_EPOCH

build() { # NAME UMASK TZ
  mkdir -p "$work/$1/source"
  (
    umask "$2"
    git -C "$root" archive HEAD | tar -C "$work/$1/source" -xf -
    TZ="$3" "$PYTHON" -m build --wheel --no-isolation --outdir "$work/$1/dist" "$work/$1/source" > "$work/$1/log" 2>&1 || {
      cat "$work/$1/log" >&2
      exit 1
    }
  )
}
build one 022 UTC
build another-place 027 Asia/Tokyo
cmp "$work"/one/dist/*.whl "$work"/another-place/dist/*.whl
mkdir -p "$out"
cp "$work"/one/dist/*.whl "$out/"
(cd "$out" && sha256sum ./*.whl)
