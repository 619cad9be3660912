"""Run a command as on a processor that has AVX2 and neither AVX-512 nor VNNI, at the speed of this one.

    python tools/machines/avx2.py build/avx2 -- python benchmarks/scale.py tiny

ONNX Runtime chooses its kernels by what CPUID says, and cannot be told to use others. So a copy of it is made in which
every CPUID instruction is a trap, and a library answers the traps without those bits. Only ONNX Runtime is told so.
Linux on x86-64; needs gcc and objdump.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ANSWERS = r"""
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 7 && part == 0) { /* every AVX-512, AMX */
        b &= ~0xDC230000u;
        c &= ~0x00005842u;
        d &= ~0x03C0010Cu;
    }
    if (leaf == 7 && part == 1) { /* AVX-VNNI, AVX512-BF16, AVX-IFMA; VNNI of 8 and 16 bits */
        a &= ~0x00800030u;
        d &= ~0x00000430u;
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGTRAP, &action, 0);
}
"""
CPUID, TRAP = b"\x0f\xa2", b"\xcc\x90"  # int3, nop


def find_cpuid(library: Path) -> Iterator[int]:
    """Where CPUID instructions lie in the file `library`."""
    data = library.read_bytes()
    (table,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, table + index * size) for index in range(count)]
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library)], capture_output=True, text=True, check=True
    ).stdout
    for found in re.findall(r"^\s*([0-9a-f]+):\s+cpuid\b", listing, re.MULTILINE):
        address = int(found, 16)
        yield next(
            offset + address - start
            for kind, _, offset, start, _, length in segments
            if kind == 1 and start <= address < start + length
        )


def prepare(build: Path) -> None:
    """A copy of ONNX Runtime with traps, and the library that answers them, in `build`."""
    installed = find_spec("onnxruntime")
    assert installed is not None
    assert installed.origin is not None
    shutil.copytree(Path(installed.origin).parent, build / "onnxruntime")
    (library,) = (build / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so")
    data = bytearray(library.read_bytes())
    for place in find_cpuid(library):
        assert data[place : place + 2] == CPUID
        data[place : place + 2] = TRAP
    library.write_bytes(data)
    (build / "answers.c").write_text(ANSWERS, "utf-8")
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(build / "answers.so"), str(build / "answers.c")]
    subprocess.run(command, check=True)


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit(__doc__)
    build = Path(sys.argv[1]).absolute()
    if not (build / "answers.so").exists():
        prepare(build)
    places = [str(build), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    environment["LD_PRELOAD"] = str(build / "answers.so")
    sys.exit(subprocess.run(sys.argv[3:], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
