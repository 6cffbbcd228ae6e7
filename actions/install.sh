#!/usr/bin/env bash
# Installs zopp from the folder that this script lies in, which is the commit that the workflow pinned: its dependencies
# from files with hashes, itself without a look at any registry. Does nothing where that was done before in this job.
#
#   ZOPP_PYTHON   a Python 3.11 or newer (default: python3)
#   ZOPP_VENV     where to (default: $RUNNER_TEMP/zopp-venv, or a folder of this job on GitLab)
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${ZOPP_PYTHON:-python3}"
venv="${ZOPP_VENV:-${RUNNER_TEMP:?RUNNER_TEMP or ZOPP_VENV has to be set}/zopp-venv}"

if [ ! -x "$venv/bin/zopp" ]; then
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "zopp: error: $python is older than Python 3.11" >&2
    exit 2
  }
  "$python" -I -m venv "$venv"
  pip() { "$venv/bin/python" -I -m pip --disable-pip-version-check --quiet "$@"; }
  pip install --require-hashes -r "$here/requirements/build.txt"
  pip install --require-hashes -r "$here/requirements/runtime.txt"
  # From a copy: a build writes beside what it builds, and the next step may be another user's.
  copy="$(mktemp -d)"
  trap 'rm -rf "$copy"' EXIT
  mkdir "$copy/zopp"
  tar -C "$here" --exclude=./.git --exclude=./.venv -cf - . | tar -C "$copy/zopp" -xf -
  pip install --no-deps --no-build-isolation --no-index "$copy/zopp"
fi
if [ -n "${GITHUB_PATH:-}" ]; then
  echo "$venv/bin" >> "$GITHUB_PATH"
fi
"$venv/bin/zopp" --version
