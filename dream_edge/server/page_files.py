"""The page at `/`: a few files of the package, and nothing from anywhere else."""

from __future__ import annotations

from importlib import resources

from starlette.responses import Response

from dream_edge.openai.errors import RequestRefused, phrase

INDEX = "index.html"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_file(name: str) -> Response:
    """Raises RequestRefused (404) unless the page has a file of that name."""
    folder = resources.files(__package__) / "page"
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    if name not in files:
        raise RequestRefused(phrase(404), status=404)
    kind = _KINDS["." + name.rpartition(".")[2]]
    return Response(files[name].read_bytes(), media_type=f"{kind}; charset=utf-8", headers=_HEADERS)
