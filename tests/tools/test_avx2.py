"""The tool that hides AVX-512 and VNNI from ONNX Runtime, on x86-64 Linux with gcc and objdump."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.machines.avx2 import ANSWERS, CPUID, TRAP, find_cpuid

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or not shutil.which("gcc") or not shutil.which("objdump"),
    reason="needs gcc and objdump on x86-64 Linux",
)

ASKS = """
#include <cpuid.h>
int main(void) {
    unsigned a, b, c, d;
    __cpuid_count(7, 0, a, b, c, d);
    return (b >> 16 & 1) | (c >> 11 & 1) << 1 | (b >> 5 & 1) << 2; /* AVX512F, VNNI, AVX2 */
}
"""


def compile_c(source: str, out: Path, *options: str) -> Path:
    command = ["gcc", "-x", "c", "-O1", *options, "-o", str(out), "-"]
    subprocess.run(command, input=source.encode(), check=True)
    return out


def test_a_program_with_traps_is_told_of_avx2_at_most(tmp_path: Path) -> None:
    program = compile_c(ASKS, tmp_path / "asks")
    answers = compile_c(ANSWERS, tmp_path / "answers.so", "-shared", "-fPIC")
    before = subprocess.run([program], check=False).returncode
    data = bytearray(program.read_bytes())
    places = list(find_cpuid(program))
    assert places
    for place in places:
        assert data[place : place + 2] == CPUID
        data[place : place + 2] = TRAP
    program.write_bytes(data)
    after = subprocess.run([program], env={"LD_PRELOAD": str(answers)}, check=False).returncode
    assert after == before & 4
    assert subprocess.run([program], check=False).returncode < 0  # the trap is not answered
