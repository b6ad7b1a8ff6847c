#!/bin/bash
# dist.sh build|check|all: builds the release files in target/dist and checks them, on a minimal
# Debian system and in a chroot that contains only the program.
#
# Building needs Debian 12: apt-get (for libpcap's sources), dpkg-dev, flex, bison. Checking needs
# root, because the programs run in chroots. The work folder is dist-work in the target folder.
# Later runs reuse libpcap, the crates and the Debian system in it.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
what=${1:-all}
target=${CARGO_TARGET_DIR:-target}
mkdir -p target/dist "$target/dist-work"
dist=$(realpath target/dist) work=$(realpath "$target/dist-work")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=rasaudit-$version-x86_64-linux
deb=rasaudit_${version}_amd64.deb
crate=rasaudit-$version.crate

# The time of the commit, so that two builds of it are identical.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null ||
    awk '$2 ~ /^[0-9]+$/ { print $2; found = 1 } END { exit !found }' packaging/commit ||
    stat -c %Y Cargo.toml)}

step() { printf '  %-50s' "$1"; began=$SECONDS; }
# Prints that a check is skipped, and why.
skipped() { printf '  %-50sskipped: %s\n' "$1" "$2"; }
ok() { printf 'ok (%s s)%s\n' $((SECONDS - began)) "${1:+, $1}"; }
fail() { printf 'FAILED\n%s\n' "$*" >&2; exit 1; }

build() {
    if [ -n "$(git status --porcelain 2> /dev/null)" ]; then
        echo "  note: there are changes that are not committed; --version and the source package are those of the last commit"
    fi
    step 'libpcap, static and dynamic program'
    packaging/build.sh "$work" > "$work/build.log" 2>&1 || fail "$(tail -30 "$work/build.log")"
    local llvm profile with=without
    llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    profile=$work/rasaudit-$version-llvm$llvm.profdata
    if [ -s "$profile" ]; then with=with; fi
    ok "$(stat -c %s "$work/static/rasaudit" | numfmt --to=iec) static, $with a profile"

    step 'man pages, completions, notices'
    local parts=$work/parts
    rm -rf "$parts"
    mkdir -p "$parts/completions"
    cargo run --quiet --locked --example man -- "$parts/man"
    "$work/static/rasaudit" completions bash > "$parts/completions/rasaudit.bash"
    "$work/static/rasaudit" completions zsh > "$parts/completions/_rasaudit"
    "$work/static/rasaudit" completions fish > "$parts/completions/rasaudit.fish"
    packaging/notices.py "$parts/notices-dynamic" > /dev/null
    packaging/notices.py "$parts/notices-static" --static "$work/libpcap" > "$work/notices.log"
    ok "$(find "$parts/man" -name '*.1' | wc -l) pages, $(cut -d: -f2 "$work/notices.log" | xargs)"

    step 'packages'
    rm -rf "$dist" "${work:?}/$name"
    mkdir -p "$dist" "$work/$name"
    cp "$work/static/rasaudit" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE \
        packaging/rasaudit@.service "$work/$name/"
    cp -r "$parts/man" "$parts/completions" rules "$work/$name/"
    cp -r docs contrib "$work/$name/"
    cp "$parts/notices-static" "$work/$name/THIRD-PARTY-NOTICES"
    cp "$work/static/rasaudit" "$dist/rasaudit"
    cp "$parts/notices-static" "$dist/THIRD-PARTY-NOTICES"
    tar -C "$work" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
        --mode=u+rwX,go+rX,go-w -cf - "$name" | gzip -9n > "$dist/$name.tar.gz"
    rm -rf "${work:?}/$name"
    if [ -s "$profile" ]; then cp "$profile" "$dist/"; fi
    SOURCE_DATE_EPOCH=$epoch packaging/deb.sh "$work/dynamic/rasaudit" "$parts" "$dist"
    source_package
    (cd "$dist" && sha256sum -- * > SHA256SUMS)
    ok "$(cd "$dist" && stat -c '%n %s' -- *.deb *.tar.gz *.crate | tr '\n' ' ')"
}

# Makes the source package of the commit, from the output of `git archive`, which writes the commit
# and its date into packaging/commit. A package that cargo makes from a checkout does not contain
# the date.
source_package() {
    local sources=$PWD
    rm -rf "$work/source" "$work/package"
    if git rev-parse HEAD > /dev/null 2>&1; then
        mkdir "$work/source"
        git archive HEAD | tar -C "$work/source" -xf -
        sources=$work/source
    fi
    (cd "$sources" && cargo package --quiet --locked --offline --allow-dirty --no-verify --target-dir "$work/package") \
        > "$work/package.log" 2>&1 || fail "$(tail -20 "$work/package.log")"
    cp "$work/package/package/$crate" "$dist/"
    rm -rf "$work/source" "$work/package"
}

check() {
    [ "$(id -u)" -eq 0 ] || {
        echo "checking needs root (debootstrap, chroot): sudo make dist, or only 'make dist-build'" >&2
        exit 1
    }
    tests/need.sh required debootstrap 'command -v debootstrap'
    tests/need.sh required man-db 'command -v man'
    tests/need.sh optional lintian 'command -v lintian'
    tests/need.sh optional systemd 'command -v systemd-analyze'
    (cd "$dist" && sha256sum --quiet -c SHA256SUMS) || fail "the checksums do not fit"
    scratch=$(mktemp -d "$work/check.XXXXXX")
    trap clean EXIT
    trap 'exit 130' INT TERM
    check_static
    check_deb
    check_pages
    check_source
    check_unit
}

# debootstrap mounts /proc and /sys, and unmounts them unless it is killed.
clean() {
    local mounted
    awk -v below="$scratch/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r |
        while read -r mounted; do umount "$mounted" || umount -l "$mounted"; done
    rm -rf --one-file-system "$scratch"
}

# Audits a fixture in a chroot as an unprivileged user, and compares the findings with the expected
# ones.
audit_in() {
    local root=$1 program=$2 code=0
    mkdir -p "$root/fixture"
    cp fixtures/farm-faults/span.pcap fixtures/farm-healthy/inventory.toml "$root/fixture/"
    chmod -R a+rX,go-w "$root/fixture"
    timeout 60 env -i "$(command -v chroot)" --userspec=65532:65532 "$root" "$program" audit \
        fixture/span.pcap -i fixture/inventory.toml --format csv \
        > "$scratch/findings.csv" 2> "$scratch/told" || code=$?
    [ $code -eq 1 ] || fail "code $code, 1 was expected: $(cat "$scratch/told")"
    cmp "$scratch/findings.csv" fixtures/farm-faults/expected/findings.csv || fail "other findings"
}

check_static() {
    step 'the static program needs no library'
    if readelf -dl "$dist/rasaudit" | grep -E 'NEEDED|INTERP'; then fail "it does"; fi
    if grep -aq "${CARGO_HOME:-$HOME/.cargo}/registry" "$dist/rasaudit"; then
        fail "it contains folders of this machine"
    fi
    ok
    step 'it audits in an empty folder'
    mkdir "$scratch/empty"
    install -m755 "$dist/rasaudit" "$scratch/empty/rasaudit"
    audit_in "$scratch/empty" /rasaudit
    ok "$(timeout 10 chroot "$scratch/empty" /rasaudit --version)"
    step 'it writes reports to the only writable folder'
    local code=0
    mkdir "$scratch/empty/report"
    chown 65532:65532 "$scratch/empty/report"
    timeout 60 env -i "$(command -v chroot)" --userspec=65532:65532 "$scratch/empty" /rasaudit audit \
        fixture/span.pcap -i fixture/inventory.toml --out /report > /dev/null 2> "$scratch/told" || code=$?
    [ $code -eq 1 ] || fail "code $code, 1 was expected: $(cat "$scratch/told")"
    [ -s "$scratch/empty/report/report.html" ] || fail "no report.html"
    ok
}

# Creates a minimal Debian system with the dependencies of the .deb in apt's cache. It is reused
# until these dependencies change.
bare() {
    local depends
    depends=$(dpkg-deb -f "$dist/$deb" Depends)
    [ -s "$work/bare.tar" ] && [ "$depends" = "$(cat "$work/bare.depends" 2> /dev/null)" ] && return
    step 'a bare Debian (once)'
    local suite mirror
    # shellcheck disable=SC1091
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Component: main' \
        'Origin: Debian' "Codename: $suite" | head -1)
    [ -n "$mirror" ] || fail "no Debian mirror is configured here"
    timeout 900 debootstrap --variant=minbase "$suite" "$scratch/bare" "$mirror" \
        > "$work/debootstrap.log" 2>&1 || fail "$(tail -20 "$work/debootstrap.log")"
    cp -L /etc/resolv.conf "$scratch/bare/etc/resolv.conf"
    install -m644 "$dist/$deb" "$scratch/bare/root/"
    timeout 300 chroot "$scratch/bare" sh -c "apt-get update &&
        apt-get install -y --no-install-recommends --download-only /root/$deb" \
        > "$work/debootstrap.log" 2>&1 || fail "$(tail -20 "$work/debootstrap.log")"
    rm "$scratch/bare/root/$deb"
    tar -C "$scratch/bare" -cf "$work/bare.tar.part" .
    mv "$work/bare.tar.part" "$work/bare.tar"
    echo "$depends" > "$work/bare.depends"
    rm -rf "$scratch/bare"
    ok
}

check_deb() {
    bare
    step 'the package installs on a bare Debian'
    mkdir "$scratch/debian"
    tar -C "$scratch/debian" -xf "$work/bare.tar"
    install -m644 "$dist/$deb" "$scratch/debian/root/"
    timeout 300 chroot "$scratch/debian" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "/root/$deb" > "$work/install.log" 2>&1 ||
        fail "$(tail -20 "$work/install.log")"
    ok
    step 'it audits there, as a plain user'
    audit_in "$scratch/debian" /usr/bin/rasaudit
    ok "$(timeout 10 chroot "$scratch/debian" rasaudit --version)"
    step 'no audit is enabled'
    if find "$scratch/debian/etc/systemd" -name 'rasaudit*' | grep .; then fail "one is"; fi
    ok
    step 'it is removed and purged'
    timeout 120 chroot "$scratch/debian" dpkg --purge rasaudit > "$work/install.log" 2>&1 ||
        fail "$(cat "$work/install.log")"
    if find "$scratch/debian" -xdev -path '*rasaudit*' ! -path '*/fixture/*' ! -path '*/root/*' \
        ! -path '*/var/cache/*' ! -path '*/var/log/*' | grep .; then fail "that is left"; fi
    ok
    if command -v lintian > /dev/null; then
        step 'lintian'
        timeout 120 lintian --tag-display-limit 0 --fail-on error,warning "$dist/$deb" \
            > "$work/lintian.log" 2>&1 || fail "$(cat "$work/lintian.log")"
        ok
    else
        skipped 'lintian' 'it is not installed'
    fi
}

check_pages() {
    step 'the man pages have no mistakes'
    mkdir "$scratch/tar"
    tar -C "$scratch/tar" -xzf "$dist/$name.tar.gz"
    local page told pages=0
    for page in "$scratch/tar/$name"/man/*.1; do
        told=$(LC_ALL=C.UTF-8 MANWIDTH=80 timeout 30 \
            man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 > /dev/null) || fail "$page: $told"
        [ -z "$told" ] || fail "$page: $told"
        pages=$((pages + 1))
    done
    ok "$pages pages"
    step 'the archive has its parts'
    for part in rasaudit README.md LICENSE-MIT LICENSE-APACHE THIRD-PARTY-NOTICES rules/ras-19/matrix.csv \
        completions/rasaudit.bash completions/_rasaudit completions/rasaudit.fish man/rasaudit-audit.1; do
        [ -s "$scratch/tar/$name/$part" ] || fail "no $part"
    done
    cmp "$scratch/tar/$name/rasaudit" "$dist/rasaudit" || fail "another program"
    ok
}

# Checks that the source package is small, and that a build of it reports the same commit and date
# as the program. Only its build script is run, because that script determines both.
check_source() {
    step 'the source package is small and knows its commit'
    local size told
    size=$(stat -c %s "$dist/$crate")
    [ "$size" -lt 5000000 ] || fail "$size bytes"
    tar -C "$scratch" -xzf "$dist/$crate"
    rustc --edition 2024 -o "$scratch/build" "$scratch/rasaudit-$version/build.rs"
    told=$(cd "$scratch/rasaudit-$version" && CARGO_PKG_VERSION=$version "$scratch/build" |
        sed -n 's/^cargo:rustc-env=RASAUDIT_VERSION=//p')
    [ "rasaudit $told" = "$("$dist/rasaudit" --version)" ] || fail "it states $told"
    ok "$size bytes, $told"
}

check_unit() {
    command -v systemd-analyze > /dev/null || {
        skipped 'the systemd unit is valid' 'systemd-analyze is not installed'
        return
    }
    step 'the systemd unit is valid'
    # The unit contains the path of the installed program, which does not exist on this system.
    local told
    sed "s|/usr/bin/rasaudit|$dist/rasaudit|" 'packaging/rasaudit@.service' > "$scratch/rasaudit@eth1.service"
    told=$(timeout 60 systemd-analyze verify --man=no "$scratch/rasaudit@eth1.service" 2>&1) || fail "$told"
    [ -z "$told" ] || fail "$told"
    ok "exposure $(timeout 60 systemd-analyze security --offline=yes "$scratch/rasaudit@eth1.service" 2> /dev/null |
        sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')"
}

case $what in
build) build ;;
check) check ;;
all)
    [ "$(id -u)" -eq 0 ] || {
        echo "'make dist' needs root for its checks (debootstrap, chroot); 'make dist-build' does without" >&2
        exit 1
    }
    build
    check
    ;;
*)
    echo "usage: dist.sh build|check|all" >&2
    exit 2
    ;;
esac
