"""`python -m dream_edge.evaluation`: lm-evaluation-harness's own command, with the model `dream-edge` in it."""

from __future__ import annotations

import sys

from dream_edge_runtime.errors import DreamEdgeError


def main() -> None:
    try:
        from .harness import command

        command()
    except DreamEdgeError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - this is a command
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
