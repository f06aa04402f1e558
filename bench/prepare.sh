# Sourced by the scripts that measure: goes to the top of the tree, builds unless told not to, and leaves the options that
# are not its own in `arguments`.
set -euo pipefail
cd "$(dirname "$0")/.."

build=yes
arguments=()
for argument in "$@"; do
    case "$argument" in
    --no-build) build=no ;;
    -h | --help)
        build=no
        arguments+=("$argument")
        ;;
    *) arguments+=("$argument") ;;
    esac
done

if [ $build = yes ]; then
    script/bootstrap bench
    script/build
fi
