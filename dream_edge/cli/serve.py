"""`dream-edge serve`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal.io import note
from .terminal.progress import show_progress

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel

_KEY = "DREAM_EDGE_API_KEY"


@options.expand_options()
def serve(
    artifact: options.ArtifactArgument,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; all but this machine itself needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.")] = 8080,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the model is called.  [default: as the artifact]")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            metavar="KEY",
            help=f"What every request must bring. Better set {_KEY}: other users can see command lines.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Answer for this host name too. May be repeated.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Let web pages of this origin ask. May be repeated.")
    ] = None,
    parallel: Annotated[int, typer.Option(metavar="N", min=1, help="Requests computed at once.")] = 1,
    queue: Annotated[int, typer.Option(metavar="N", min=1, help="Requests that may wait.")] = 16,
    max_tokens: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Of an answer whose request names no length, with a block-causal model."),
    ] = 4096,
    prefix_cache: options.PrefixCache = None,
    *,
    loading: options.Loading,
) -> None:
    """Answer requests over HTTP, as OpenAI's API.

    Chat, completions, filling in the middle; streams that show the denoising with "diffusing": true. Only programs on
    this machine are answered, unless --host says otherwise.
    """
    import dream_edge
    from dream_edge.models import find_or_make_int8, open_artifact, served_name
    from dream_edge_runtime.errors import MissingExtra

    try:
        from dream_edge.server import ServerSettings
        from dream_edge.server import serve as run
        from dream_edge.server.logs import log_as_json
    except ImportError:
        raise MissingExtra("Serving", "serve") from None

    settings = ServerSettings(
        host=host,
        port=port,
        api_key=api_key or os.environ.get(_KEY) or None,
        allowed_hosts=tuple(each.lower() for each in allow_host or ()),
        allowed_origins=tuple(allow_origin or ()),
        parallel=parallel,
        queue=queue,
        max_tokens=max_tokens,
    )
    others = {name: value for name, value in loading.keywords().items() if name != "as_int8"}
    with show_progress() as progress:  # what is missing is reported before anything listens
        opened = open_artifact(artifact, progress=progress)
        served = name or served_name(artifact, opened)
        if loading.as_int8:
            opened = find_or_make_int8(opened, **others, progress=progress)

    def load() -> DreamModel:
        loaded = dream_edge.load(opened.path, **others, prefix_cache_bytes=options.in_bytes(prefix_cache))
        note(f"{served} is loaded.")
        return loaded

    with log_as_json():
        run(load, served, settings, dream_edge.__version__, lambda url, _: note(f"{served} at {url}. Ctrl-C stops it."))
