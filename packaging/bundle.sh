#!/usr/bin/env bash
# Builds the bundle that upgrades Holdfast by Holdfast.
#   bundle.sh PROGRAM VERSION FILE [KEY]
# PROGRAM is the new holdfast, of VERSION; the bundle goes to FILE. KEY is a file with
# a secret key; without it the bundle is not signed. FROM in the environment is a
# pattern of the versions that may be upgraded, by default all that are lower: narrow
# it to those whose job.Generation is at most one less.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,8s/^# //p' "$0" >&2; exit 2; }
program=$1 version=$2 file=$3 key=${4-} from=${FROM:-<$2}
if ! [[ $version =~ ^[0-9]+\.[0-9]+[0-9A-Za-z._+~-]*$ ]]; then
  echo "version $version: want one that can be compared, such as 1.4.0: make bundle VERSION=1.4.0" >&2
  exit 2
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp -r "$(dirname "$0")/self/." "$dir"
mkdir "$dir/bin"
install -m 0755 "$program" "$dir/bin/holdfast"
sed -i -e '/^#/d' -e "s|@VERSION@|$version|g" -e "s|@FROM@|${from//&/\\&}|g" "$dir/manifest.yaml"
mkdir -p "$(dirname "$file")"
rm -f "$file"
"$program" bundle build "$dir" -o "$file" ${key:+--key "$key"}
