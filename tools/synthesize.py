"""Write a checkpoint in Dream's layout and of its real size, with random weights that behave like trained ones.

python tools/synthesize.py --geometry dream-7b build/dream-7b

Exports, memory and speed can so be tried where no published checkpoint can be had. The text it generates is noise.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file, from any directory


def main() -> None:
    from tools.synthetic.checkpoint import synthesize
    from tools.synthetic.family import geometry
    from tools.synthetic.vocabulary import MissingVocabulary

    given = _arguments()
    shape = geometry(given.geometry).sized(
        num_hidden_layers=given.layers,
        hidden_size=given.hidden,
        intermediate_size=given.intermediate,
        num_attention_heads=given.heads,
        num_key_value_heads=given.kv_heads,
    )
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("weights", total=None)
            synthesize(
                shape,
                given.out,
                seed=given.seed,
                shard_size=given.shard_size,
                words=given.words,
                force=given.force,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except (OSError, MissingVocabulary) as error:
        sys.exit(f"error: {error}")
    print(given.out)


def _arguments() -> argparse.Namespace:
    from tools.synthetic.checkpoint import SHARD_SIZE
    from tools.synthetic.family import GEOMETRIES, SHORT_NAMES

    parser = argparse.ArgumentParser(description="A checkpoint in Dream's layout, with random weights.")
    parser.add_argument("out", type=Path, metavar="OUT", help="the directory to write")
    parser.add_argument("--geometry", required=True, choices=[*SHORT_NAMES, *GEOMETRIES])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="replace OUT, once the new checkpoint is whole")
    parser.add_argument("--shard-size", type=_positive, default=SHARD_SIZE, metavar="BYTES")
    parser.add_argument("--layers", type=_positive, help="as many layers instead of all")
    for name in ("hidden", "intermediate", "heads", "kv-heads"):
        parser.add_argument(f"--{name}", type=_positive, help="another size than the geometry's")
    parser.add_argument("--words", type=_positive, help="keep the first so many ordinary tokens of the vocabulary")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    main()
