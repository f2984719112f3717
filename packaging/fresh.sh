#!/usr/bin/env bash
# Runs a command, by default `make test`, on this tree in a Debian root where nobody
# worked before: nothing is there but a minimal system and what test-deps.sh installs.
#   fresh.sh [COMMAND...]
# It has what `make test` needs, or with FRESH_DEPS=drills what `make drills` needs.
# The root is made by debootstrap, once for each list of packages and each month, and
# kept in $FRESH_CACHE (default /var/cache/holdfast-fresh). A run works on a copy of
# it, in namespaces of its own for mounts, processes, IPC, host name and control groups;
# it has the machine's network. Nothing of it stays but its results in out/ and the ledger
# of drills. What the compiler made stays beside the root for the next run; of the modules
# on this machine nothing is written. What is not committed goes along.
# Where such a root can not be made, it says why in one line and runs the command in
# place. The exit code is that of the command.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd -P)
cache=${FRESH_CACHE:-/var/cache/holdfast-fresh}
release=bookworm
deps=${FRESH_DEPS:-test}
ledger=docs/drills.jsonl
[ $# -gt 0 ] || set -- make --no-print-directory test
command=("$@")
top='' run='' group='' part='' # what over removes
cd "$here"

in_place() {
  echo "no fresh root: $1; this runs in place" >&2
  trap - EXIT
  exec "${command[@]}" 8>&-
}

# allowed finds out, before minutes are spent, whether a run is possible here.
allowed() {
  local try why
  [ "$(id -u)" -eq 0 ] || in_place "this is not root"
  mkdir -p "$cache" 2>/dev/null && try=$(mktemp -d "$cache/try-XXXXXX" 2>/dev/null) || in_place "$cache can not be written"
  mkdir "$try"/{low,up,work,at}
  why=$(unshare --mount --pid --ipc --uts --fork mount -t overlay overlay \
    -o "lowerdir=$try/low,upperdir=$try/up,workdir=$try/work" "$try/at" 2>&1) || why="no namespaces or no overlay (${why%%$'\n'*})"
  rm -rf "$try"
  [ -z "$why" ] || in_place "$why"
  command -v debootstrap >/dev/null || {
    apt-get -qq -o DPkg::Lock::Timeout=300 update && apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends debootstrap
  } >/dev/null 2>&1 || in_place "there is no debootstrap, and apt-get does not install it"
}

# source_of finds where this machine gets a suite from, which may be a mirror.
source_of() {
  local found
  found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null | awk -v want="$1" '
    /^URIs:/ { uri = $2 }
    /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == want) print uri }
    /^deb / { sub(/\[[^]]*\] */, ""); if ($3 == want) print $2 }' || true)
  found=${found%%$'\n'*}
  echo "${found:-$2}"
}

# names lets a root find names in the network as this machine does.
names() {
  local f
  for f in resolv.conf hosts hostname; do
    [ ! -e /etc/$f ] || cp -L /etc/$f "$1/etc/$f"
  done
}

# build makes a root: a minimal system, and what the first step of `make test` installs.
build() {
  local root=$1 mirror
  mirror=$(source_of $release http://deb.debian.org/debian)
  debootstrap --variant=minbase --include=ca-certificates,make $release "$root" "$mirror"
  cat >"$root/etc/apt/sources.list" <<-EOF
	deb $mirror $release main
	deb $(source_of $release-updates "$mirror") $release-updates main
	deb $(source_of $release-security http://deb.debian.org/debian-security) $release-security main
	EOF
  apt-config dump | grep -E '^Acquire::https?::Proxy' >"$root/etc/apt/apt.conf.d/90proxy" || true
  cp -rL /etc/ssl/certs/. "$root/etc/ssl/certs/" || true # what a proxy may need
  names "$root"
  cp packaging/test-deps.sh "$root/root/"
  unshare --mount --pid --fork --kill-child sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
    env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin /root/test-deps.sh "$deps"
  rm -rf "$root/root/test-deps.sh" "$root"/var/cache/apt/archives/*.deb
}

# lower sets base to a root that is ready, and keeps it from being removed (by fd 7).
lower() {
  local key old
  key=$({ cat packaging/test-deps.sh; declare -f build; } | sha256sum | cut -c1-12)-$(date +%Y%m)
  base=$cache/base-$deps-$key
  exec 8>"$cache/lock"
  flock 8
  for old in "$cache"/base-"$deps"-* "$cache"/run-*; do
    # Those of other keys, and of runs that were killed; one in use is locked.
    [ "$old" = "$base" ] || [ ! -d "$old" ] || flock -n "$old" rm -rf --one-file-system "$old" || true
  done
  if [ ! -d "$base" ]; then
    echo "fresh root: $base is made first, which takes minutes" >&2
    part=$base-part
    set -m # over ends its group
    (set -e; build "$part") </dev/null >"$cache/build.log" 2>&1 & # here set -e counts, in a condition not
    run=$!
    set +m
    if ! wait "$run"; then
      run=''
      rm -rf --one-file-system "$part"
      in_place "debootstrap or apt-get failed ($cache/build.log: $(tail -n 1 "$cache/build.log"))"
    fi
    mv "$part" "$base"
    run='' part=''
  fi
  exec 7<"$base"
  flock -s 7
  top=$(mktemp -d "$cache/run-XXXXXX")
  exec 6<"$top"
  flock 6
  exec 8>&-
}

# tree copies what git knows of the tree and does not ignore, committed or not.
tree() {
  local f
  mkdir -p "$1"
  if git clone -q --no-checkout . "$1" 2>/dev/null; then
    git -C "$1" reset -q
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
      [ ! -e "$f" ] && [ ! -L "$f" ] || printf '%s\0' "$f" # one that was removed stays so
    done | tar --null --no-recursion -T - -cf -
  else
    tar --exclude=./bin --exclude=./out --exclude=./.git -cf - .
  fi | tar -C "$1" --no-same-owner -xf -
}

# settings writes the environment of the command, as arguments of env.
settings() {
  local v
  set -- HOME=/root LANG=C.UTF-8 TERM=dumb PATH="$GOROOT/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOLDFAST_FRESH=1 \
    GOPATH=/root/go GOCACHE="$GOCACHE" GOMODCACHE="$GOMODCACHE" GOTOOLCHAIN=local
  for v in GOPROXY GOSUMDB GONOSUMDB GONOPROXY GOPRIVATE; do
    set -- "$@" "$v=$(go env $v)"
  done
  # Results of tests that the cache has are of another machine.
  set -- "$@" "GOFLAGS=$(go env GOFLAGS) -count=1"
  for v in {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY HOLDFAST_DRILL_RUNS; do
    [ -z "${!v-}" ] || set -- "$@" "$v=${!v}"
  done
  printf '%s\0' "$@"
}

# enter is the first process of the run: it makes the root, goes there and waits for
# the command. As a shell it also reaps what others leave.
enter() {
  local m=$top/root
  set -euo pipefail
  # No overlay: the laboratory lays its own over folders here, and over another one the
  # numbers of folders would not outlive a reboot of its hosts.
  mount --bind "$m" "$m"
  cp -a --reflink=auto "$base/." "$m"
  names "$m"
  mount -t proc proc "$m/proc"
  mount --rbind /sys "$m/sys"
  mount --rbind /dev "$m/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$m/dev/shm"
  mount -t tmpfs -o mode=755 tmpfs "$m/run"
  mkdir -m 1777 "$m/run/lock"
  if [ -n "$group" ]; then
    umount -l "$m$groups"
    mount -t cgroup2 cgroup2 "$m$groups"
  fi
  mkdir -p "$m$GOCACHE" "$m$GOMODCACHE" "$m$here"
  mount --bind "$made/build" "$m$GOCACHE"
  mount -t overlay overlay -o "lowerdir=$GOMODCACHE,upperdir=$made/mod,workdir=$made/work" "$m$GOMODCACHE"
  mkdir -p "$m$GOROOT"
  mount --bind "$GOROOT" "$m$GOROOT"
  mount -o remount,ro,bind "$m$GOROOT"
  mount --bind "$top/tree" "$m$here"
  mkdir "$m/.old"
  cd "$m"
  pivot_root . .old # chroot would forbid user namespaces
  exec <&- && exec </dev/null
  cd "$here"
  umount -l /.old
  rmdir /.old
  hash -r
  local status=0
  env -i "${environment[@]}" "$@" || status=$?
  exit $status
}

# over ends what is left of the run, and removes it.
over() {
  local status=$? first d
  trap - EXIT
  trap '' INT TERM HUP
  if [ -n "$run" ]; then
    # With the first process of the namespace all others end, before that one is gone.
    first=$(cat "/proc/$run/task/$run/children" 2>/dev/null || true)
    [ -n "$top" ] && [ -n "$first" ] && kill -KILL $first || kill -KILL -- "-$run"
    wait "$run"
  fi 2>/dev/null || true
  [ -z "$part" ] || rm -rf --one-file-system "$part" || true
  [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} + || true
  if [ -n "$top" ]; then
    mkdir -p out
    for d in kept drills; do
      [ ! -e "$top/tree/out/$d" ] || cp -r "$top/tree/out/$d" out/
    done
    # Lines are only added: one that has no more than this tree's has nothing new.
    [ ! -e "$top/tree/$ledger" ] || [ "$(wc -l <"$top/tree/$ledger")" -le "$(cat $ledger 2>/dev/null | wc -l)" ] || cp "$top/tree/$ledger" $ledger
    rm -rf --one-file-system "$top" || true
  fi
  exit "$status"
}

main() {
  local old own status
  GOROOT=$(go env GOROOT) GOCACHE=$(go env GOCACHE) GOMODCACHE=$(go env GOMODCACHE)
  allowed
  trap over EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  lower
  mkdir -p "$GOMODCACHE" "$top/root"
  made=$cache/go # of a second run at the same time they are its own
  exec 5>"$cache/go.lock"
  flock -n 5 || made=$top/go
  mkdir -p "$made"/{build,mod,work}
  tree "$top/tree"
  settings >"$top/environment"
  # Its control groups are below one that can be removed as a whole. That of a run that
  # was killed is removed now.
  groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  for old in "$groups"/holdfast-fresh-*; do
    [ ! -d "$old" ] || [ -d "/proc/${old##*-}" ] || find "$old" -depth -type d -exec rmdir {} + || true
  done
  own=()
  if [ -n "$groups" ] && mkdir "$groups/holdfast-fresh-$$" 2>/dev/null; then
    group=$groups/holdfast-fresh-$$ own=(--cgroup)
  fi
  export here top base made group groups GOROOT GOCACHE GOMODCACHE
  export -f enter names
  set -m # or the command would ignore SIGINT
  (
    [ -z "$group" ] || echo 0 >"$group/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --mount --pid --ipc --uts "${own[@]}" --fork --kill-child \
      bash -c 'mapfile -d "" -t environment <"$top/environment"; enter "$@"' enter "${command[@]}"
  ) </dev/null 5>&- 6>&- 7>&- &
  run=$!
  set +m
  status=0
  wait "$run" || status=$?
  run=''
  exit "$status"
}

main # the whole is read before it begins: it may be changed meanwhile
