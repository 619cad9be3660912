"""Hold the public API to types that every checker knows: python tools/check_public_types.py. It asks pyright."""

from __future__ import annotations

import json
import subprocess
import sys

OF_A_LIBRARY_WITHOUT_TYPES = {"dream_edge.evaluation.harness.DreamEdgeLM"}
"""Classes whose base is one of lm-evaluation-harness, which is not installed here."""


def main() -> int:
    """Print what a user's type checker must guess; 1 if there is any."""
    command = ["pyright", "--verifytypes", "dream_edge", "--ignoreexternal", "--outputjson"]
    completeness = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)["typeCompleteness"]
    symbols = completeness["symbols"]
    unknown = [
        symbol for symbol in symbols if not (symbol["isTypeKnown"] or symbol["name"] in OF_A_LIBRARY_WITHOUT_TYPES)
    ]
    for symbol in unknown:
        print(symbol["name"], *(each["message"] for each in symbol["diagnostics"]), sep="\n    ")
    print(f"{len(symbols) - len(unknown)} of {len(symbols)} public names have a known type")
    return int(bool(unknown))


if __name__ == "__main__":
    sys.exit(main())
