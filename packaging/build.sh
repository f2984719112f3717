#!/usr/bin/env bash
# Builds the packages of Holdfast: build.sh [VERSION] [ARCH]
#   out/holdfast_VERSION_ARCH.deb, out/holdfast-VERSION.RPMARCH.rpm, out/holdfast-VERSION.cdx.json
# VERSION is one that can be compared, such as 1.4.0 or 1.4.0~rc1; by default that of the
# last tag, else a 0.0.0 with the number of commits. ARCH is amd64 (default) or arm64. One
# commit gives the same files in every folder; SOURCE_DATE_EPOCH (seconds since 1970), by
# default the time of the commit, is the time in them; COMMIT, by default that of the folder's
# history, is what "zsha -v" shows. OUT is another directory than out.
set -euo pipefail
cd "$(dirname "$0")/.."
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
fail() {
  echo "packaging/build.sh: $1" >&2
  exit 2
}
[ $# -le 2 ] || fail "want [VERSION] [ARCH]"
version=${1-} arch=${2:-amd64}
if [ -z "$version" ]; then
  version=$(git describe --tags --abbrev=0 2>/dev/null || true) version=${version#v}
  version=${version:-0.0.0+$(git rev-list --count HEAD).g$(git rev-parse --short=8 HEAD)}
fi
[[ $version =~ ^[0-9]+\.[0-9]+[0-9A-Za-z.+~]*$ ]] || fail "version $version: want one that packages can compare, such as 1.4.0 or 1.4.0~rc1"
case $arch in
  amd64) rpm=x86_64 ;;
  arm64) rpm=aarch64 ;;
  *) fail "architecture $arch: want amd64 or arm64" ;;
esac
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
[[ $SOURCE_DATE_EPOCH =~ ^[0-9]+$ ]] || fail "SOURCE_DATE_EPOCH $SOURCE_DATE_EPOCH: want seconds since 1970"
commit=${COMMIT:-$(git rev-parse --verify --quiet HEAD 2>/dev/null || true)}
[[ $commit =~ ^[0-9a-f]*$ ]] || fail "COMMIT $commit: want the hash of a commit"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022
out=${OUT:-out}
mkdir -p "$out"

program=$stage/files/opt/holdfast/bin/holdfast
build=(go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$version -X main.commit=$commit -X main.committed=$SOURCE_DATE_EPOCH")
CGO_ENABLED=0 GOOS=linux GOARCH=$arch "${build[@]}" -o "$program" ./cmd/holdfast
# The program of this machine writes what lies beside it.
native=$program
[ "$arch" = "$(go env GOHOSTARCH)" ] || CGO_ENABLED=0 "${build[@]}" -o "${native:=$stage/native}" ./cmd/holdfast
"$native" host-files "$stage/files"
doc=$stage/files/usr/share/doc/holdfast
mkdir -p "$doc"
install -m 0644 README.md README.zh-CN.md CHANGELOG.md docs/metrics.md "$doc"
share=$stage/files/usr/share/holdfast
mkdir -p "$share/prometheus" "$share/grafana"
install -m 0644 packaging/prometheus/* "$share/prometheus"
install -m 0644 packaging/grafana/* "$share/grafana"
gzip -9n >"$doc/changelog.gz" <<END
holdfast ($version) stable; urgency=medium

  * What has changed is in CHANGELOG.md, in this directory.

 -- $(sed -n 's/^maintainer: //p' packaging/nfpm.yaml)  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
install -m 0644 packaging/copyright "$doc/copyright" # Debian has the text of the license
install -D -m 0644 LICENSE "$stage/files/usr/share/licenses/holdfast/LICENSE"
find "$stage/files" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# config writes the settings of nfpm; $1 is a program for sed.
config() {
  sed -e '/^#/d' -e "s/@ARCH@/$arch/; s/@VERSION@/$version/" -e "$1" packaging/nfpm.yaml
  (cd "$stage/files" && find . -type f -printf '%m /%P\n' | LC_ALL=C sort -k 2) | while read -r mode path; do
    echo "- {src: '$stage/files$path', dst: '$path', file_info: {mode: 0$mode}}"
  done | sed -e "$1"
  (cd "$stage/files" && find . -type l -printf '%l /%P\n' | LC_ALL=C sort -k 2) | while read -r target path; do
    echo "- {src: '$target', dst: '$path', type: symlink}"
  done
}
config "/^license:/d; /\/usr\/share\/licenses\//d" >"$stage/deb.yaml"
config "\\|/usr/share/doc/holdfast/copyright|d; s|dst: '/usr/share/zsh/vendor-completions/|dst: '/usr/share/zsh/site-functions/|" >"$stage/rpm.yaml"

# without_opt takes /opt itself, the first entry, out of a package for Debian: dpkg would remove it with the package
# when nothing else is in it. preinst makes it where it is not there.
without_opt() {
  mkdir "$stage/parts"
  cd "$stage/parts"
  ar x "$1"
  gzip -d data.tar.gz
  [ "$(head -c 512 data.tar | tar -tf - 2>/dev/null)" = ./opt/ ] || fail "the package does not begin with /opt"
  tail -c +513 data.tar | gzip -9n >data.tar.gz
  rm "$1"
  ar rcD "$1" debian-binary control.tar.gz data.tar.gz
}
for kind in deb rpm; do
  file=$out/holdfast_${version}_$arch.deb
  [ $kind = deb ] || file=$out/holdfast-$version.$rpm.rpm
  go run "$nfpm" package --config "$stage/$kind.yaml" --packager $kind --target "$stage/$kind" >"$stage/log" || { cat "$stage/log" >&2; exit 1; }
  [ $kind = rpm ] || (without_opt "$stage/deb")
  mv "$stage/$kind" "$file"
  echo "$file"
done
go run ./tools/sbom "$program" "$version" >"$stage/bill"
mv "$stage/bill" "$out/holdfast-$version.cdx.json"
echo "$out/holdfast-$version.cdx.json"
