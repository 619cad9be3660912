#!/usr/bin/env bash
# Install the project with the lowest, the tested or the newest dependencies, use it as a new user does, and run its tests.
#
#     tools/machines/versions.sh lowest|tested|newest [PYTHON [TEST…]]
#
# PYTHON is a version or a path, 3.11 unless named. Of a dependency the lowest is the first that pyproject.toml allows and that
# has a wheel for this Python. The tests are those of the runtime and quick ones of each extra, unless others are named.
# uv must be there (pip install uv), and its own settings apply: UV_TORCH_BACKEND=cpu saves gigabytes of CUDA libraries on
# Linux. With ENVIRONMENT set, the virtual environment is made there, or used if it exists, and kept.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-} in
  lowest) versions=(--resolution lowest-direct) warnings=(-W default) ;;  # old libraries warn of what new ones drop
  tested) versions=(--constraint constraints.txt) warnings=() ;;
  newest) versions=(--upgrade) warnings=() ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "tools/machines/${0##*/}" >&2; exit 2 ;;
esac
quick=(tests/runtime tests/export/test_export.py tests/dream_edge/{test_light,test_load}.py tests/dream_edge/cli/test_cli.py
  tests/dream_edge/server/{test_engine,test_middleware}.py tests/dream_edge/hub/test_hub.py tests/dream_edge/quality/report)
tests=("${@:3}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
environment=${ENVIRONMENT:-$work/environment}
[ -e "$environment/pyvenv.cfg" ] || uv venv --quiet --python "${2:-3.11}" "$environment"
export VIRTUAL_ENV=$environment PATH=$environment/bin:$PATH
unset PYTHONPATH
uv build --quiet --wheel --out-dir "$work"
wheel=$(echo "$work"/*.whl)
install() {  # extras, and groups: wheels only, as old sources rarely build
  local named=${1//,/ --extra } && shift
  # shellcheck disable=SC2086
  uv pip compile --quiet --no-build "${versions[@]}" pyproject.toml --extra $named "$@" --output-file "$work/pins.txt" >/dev/null
  uv pip install --quiet --no-build --requirement "$work/pins.txt" "$wheel"
}

install cpu
(
  cd "$work"  # outside the sources, so that what was installed is used
  set -x
  dream-edge --version
  test "$(dream-edge generate tiny -p "What sound does the dog make?")" = "A dog barks."
  dream-edge info tiny
  dream-edge verify tiny
)
install cpu,export,serve,hub,report --group dev --group docs
python --version
uv pip list --format freeze
python -m pytest -p no:cacheprovider "${warnings[@]}" "${tests[@]:-${quick[@]}}"
