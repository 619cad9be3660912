#!/usr/bin/env bash
# The product on x86-64 processors with less than this one has.
#
#   tools/machines/processors.sh BUILD [PYTEST ARGUMENT…]     BUILD: a folder that git ignores
#
# First the smoke test in QEMU (apt-get install qemu-user) as four processors: only this changes the kernels of ONNX
# Runtime. QEMU has no AVX-512. Then the tests, or those that are named, with PyTorch, oneDNN and NumPy held to AVX2 and
# to what every x86-64 has, and as the machine is; each must pass as many. What is emulated says nothing about speed.
set -euo pipefail
build=$(mkdir -p "${1:?a folder to build in}" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
unset OPENBLAS_CORETYPE  # it would run another processor's instructions
status=0

python3 tools/machines/prepare.py "$build/prepared" >/dev/null
for processor in Nehalem SandyBridge Haswell EPYC; do  # SSE4.2; AVX; AVX2 by Intel and by AMD
  echo "== $processor, emulated"
  OMP_NUM_THREADS=1 nice -n 19 qemu-x86_64 -cpu "$processor" "$(command -v python3)" tools/machines/smoke.py \
    "$build/prepared" "$build/$processor" --skip bench 2> >(grep -v "TCG doesn't support" >&2) || status=1
done

numpy_off() {  # what NumPy is to leave out, of what it would use here
  python3 -c '
import sys
from numpy._core._multiarray_umath import __cpu_dispatch__ as built, __cpu_features__ as has
print(*(name for name in built if has.get(name) and (sys.argv[1] == "all" or "AVX512" in name or "V4" in name)))' "$1"
}
for level in machine avx2 default; do
  settings=()
  case $level in
    avx2) settings=(ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 NPY_DISABLE_CPU_FEATURES="$(numpy_off wide)") ;;
    default) settings=(ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 NPY_DISABLE_CPU_FEATURES="$(numpy_off all)") ;;
  esac
  echo "== the tests: $level ${settings[*]}"
  env "${settings[@]}" python3 -m pytest -q -n auto --dist loadfile "$@" | tail -n 5 || status=1
done
exit $status
