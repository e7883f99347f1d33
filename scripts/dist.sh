#!/usr/bin/env bash
# Makes a release: an archive, and a bill of materials, of each program, and their checksums.
#
#   scripts/dist.sh [PROGRAM...]   exporter, predictor, scaler; all of them where none is named
#
# Whoever builds the same commit with the same Rust and the same C library gets the same bytes, wherever the tree lies: the
# archives are in order and have the time of the commit, and no path of the machine gets into a program.
#
#   DIST_OUT      folder that the files go to (target/dist)
#   DIST_TOOL     cloudpulse-dist, where it is built already
#   CARGO_FLAGS   further flags for cargo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One spelling of each, or sorting and messages would be the builder's.
export LC_ALL=C TZ=UTC
umask 022

programs=("$@")
[ $# -gt 0 ] || programs=(exporter predictor scaler)
for program in "${programs[@]}"; do
  case $program in exporter | predictor | scaler) ;; *)
    echo "dist.sh: no such program: $program (exporter, predictor or scaler)" >&2
    exit 2
    ;;
  esac
done
scripts/setup.sh dist
PATH=$PWD/target/tools/bin:$PATH
read -ra flags <<<"${CARGO_FLAGS-}"
target=x86_64-unknown-linux-gnu
out=$(realpath -m "${DIST_OUT:-target/dist}")
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} CARGO_INCREMENTAL=0
cargo_home=${CARGO_HOME:-$HOME/.cargo}
version=$(cargo pkgid -p cloudpulse-exporter)
version=${version##*[#@]}
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
  commit+=" with changes"
  echo "!!! the tree has changes that are not committed: nobody else can build these archives" >&2
fi
rust=$(rustc --version)
glibc=$(dpkg-query -W -f '${Version}' libc6-dev)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# cargo-cyclonedx writes beside each Cargo.toml, so it works on a copy.
mkdir "$work/tree"
git ls-files -z | tar --create --null --files-from - | tar --extract --directory "$work/tree"

tool=${DIST_TOOL-}
if [ -z "$tool" ]; then
  cargo build --quiet --locked "${flags[@]}" --package cloudpulse-dist
  tool=$CARGO_TARGET_DIR/debug/cloudpulse-dist
fi

build() { # PACKAGE: by itself, so that no feature of another program is in it
  local remap="--remap-path-prefix=$CARGO_TARGET_DIR=/target --remap-path-prefix=$PWD=/cloudpulse --remap-path-prefix=$cargo_home=/cargo"
  # The C of ring and mimalloc, too.
  RUSTFLAGS="-C target-feature=+crt-static $remap" \
    CFLAGS="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$CARGO_TARGET_DIR=/target" \
    cargo build --release --locked "${flags[@]}" --target "$target" --package "$1"
}

for program in "${programs[@]}"; do
  package=cloudpulse-$program
  name=$package-$version-$target
  echo "=== $name"
  build "$package"
  folder=$work/$name
  mkdir -p "$folder/systemd" "$folder/licenses"
  install -m 755 "$CARGO_TARGET_DIR/$target/release/$package" "$folder/"
  "$tool" usage "$package" "$folder"
  install -m 644 "dist/systemd/$package.service" "$folder/systemd/"
  install -m 644 README.md CHANGELOG.md "$folder/"
  install -m 644 LICENSE-MIT LICENSE-APACHE "$folder/licenses/"
  install -m 644 /usr/share/doc/libc6-dev/copyright "$folder/licenses/glibc.txt"
  "$tool" licences "$package" "$folder/licenses/third-party.txt"
  case $program in
    exporter)
      install -m 755 "$CARGO_TARGET_DIR/$target/release/cloudpulse-exporter-web" "$folder/"
      install -D -m 644 docs/web-config.md "$folder/docs/web-config.md"
      ;;
    predictor) install -D -m 644 dist/examples/predictor.yml "$folder/examples/predictor.yml" ;;
    scaler) install -D -m 644 -t "$folder/examples/rules" rules/scaling/*.yaml ;;
  esac
  cat >"$folder/BUILD" <<END
commit: $commit
time: $SOURCE_DATE_EPOCH
rust: $rust
glibc: $glibc, linked into the program
c compiler: $(cc --version | head -n 1)
END
  tar --create --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --directory "$work" "$name" | gzip -n -9 >"$out/$name.tar.gz"

  cargo cyclonedx --quiet --manifest-path "$work/tree/$program/Cargo.toml" --describe crate --format json \
    --spec-version 1.5 --target "$target"
  "$tool" sbom "$package" "$work/tree/$program/$package.cdx.json" \
    --folder "$work/tree" --rust "$(cut -d' ' -f2 <<<"$rust")" --glibc "$glibc" "$out/$name.cdx.json"
done

cd "$out"
sha256sum -- *-"$version"-"$target".tar.gz *-"$version"-"$target".cdx.json >SHA256SUMS
cat SHA256SUMS
