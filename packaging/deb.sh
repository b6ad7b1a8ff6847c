#!/bin/sh
# deb.sh PROGRAM PARTS OUT: makes a Debian package in the folder OUT. PROGRAM is the dynamic binary.
# PARTS contains man/, completions/ and notices-dynamic, which dist.sh creates.
set -eu
umask 022
[ $# -eq 3 ] || { echo "usage: deb.sh PROGRAM PARTS OUT" >&2; exit 2; }
program=$(realpath "$1") parts=$(realpath "$2") out=$(realpath "$3")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
maintainer="${DEBFULLNAME:-rasaudit authors} <${DEBEMAIL:-rasaudit@users.noreply.invalid}>"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
tree=$scratch/tree
put() { install -Dm"$1" "$2" "$tree/$3"; }
packed() { mkdir -p "$(dirname "$tree/$2")" && gzip -9n < "$1" > "$tree/$2"; }

put 755 "$program" usr/bin/rasaudit
put 644 packaging/rasaudit@.service lib/systemd/system/rasaudit@.service
put 644 packaging/debian/default etc/default/rasaudit
install -d "$tree/etc/rasaudit"
for page in "$parts"/man/*.1; do packed "$page" "usr/share/man/man1/$(basename "$page").gz"; done
put 644 "$parts/completions/rasaudit.bash" usr/share/bash-completion/completions/rasaudit
put 644 "$parts/completions/_rasaudit" usr/share/zsh/vendor-completions/_rasaudit
put 644 "$parts/completions/rasaudit.fish" usr/share/fish/vendor_completions.d/rasaudit.fish
doc=usr/share/doc/rasaudit
put 644 packaging/debian/copyright $doc/copyright
packed "$parts/notices-dynamic" $doc/THIRD-PARTY-NOTICES.gz
packed CHANGELOG.md $doc/CHANGELOG.md.gz
{
    printf 'rasaudit (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n' "$version"
    printf ' -- %s  %s\n' "$maintainer" "$(LC_ALL=C date -u -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")"
} > "$scratch/changelog"
packed "$scratch/changelog" $doc/changelog.gz
put 644 README.md $doc/README.md
find docs -name '*.md' | while read -r page; do put 644 "$page" "$doc/$page"; done
put 644 docs/page.png $doc/docs/page.png
find contrib -type f | while read -r file; do put 644 "$file" "$doc/$file"; done
put 644 src/policy/template.toml $doc/examples/inventory.toml

# The dependencies: the libraries that the program is linked with, each with the lowest version that
# has the symbols that it uses.
mkdir -p "$scratch/debian"
printf 'Source: rasaudit\n\nPackage: rasaudit\nArchitecture: amd64\n' > "$scratch/debian/control"
depends=$(cd "$scratch" && dpkg-shlibdeps -O "$tree/usr/bin/rasaudit" 2> /dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "the libraries of $program are not known" >&2; exit 1; }
control=$tree/DEBIAN
mkdir "$control"
sed "s|@VERSION@|$version|; s|@DEPENDS@|$depends|; s|@MAINTAINER@|$maintainer|
     s|@SIZE@|$(du -sk --exclude=DEBIAN "$tree" | cut -f1)|" packaging/debian/control > "$control/control"
for script in postinst prerm postrm; do install -m755 "packaging/debian/$script" "$control/"; done
echo /etc/default/rasaudit > "$control/conffiles"
(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | LC_ALL=C sort |
    xargs -d '\n' md5sum > DEBIAN/md5sums)
chmod 644 "$control/control" "$control/conffiles" "$control/md5sums"
# dpkg-deb lowers the times of files that are later than SOURCE_DATE_EPOCH, if that is set.
dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/rasaudit_${version}_amd64.deb" > /dev/null
