#!/bin/sh
# install.sh: installs the engines of requirements.txt into a cache folder, unless they are there.
#
# They take about 900 MB. If they cannot be installed, this is only stated, and the tests that need them are
# shown as ignored.
set -u
wanted=$(dirname "$0")/requirements.txt
folder=${RASAUDIT_ENGINES:-${XDG_CACHE_HOME:-$HOME/.cache}/rasaudit-ci/engines}
cmp -s "$wanted" "$folder/installed.txt" && exit 0
echo "installing Spark, DuckDB and pyarrow into $folder" >&2
rm -rf "$folder"
if mkdir -p "$(dirname "$folder")" && python3 -m venv "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir -r "$wanted"; then
    cp "$wanted" "$folder/installed.txt"
    exit 0
fi
echo "could not install them; by hand: python3 -m venv $folder && $folder/bin/pip install -r $wanted" >&2
