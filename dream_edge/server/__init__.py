"""A Dream over HTTP: OpenAI's API, with the denoising as it happens for those who ask.

Request ──middleware──▶ routes (parsed, checked) ──▶ service ──▶ engine (workers, a bounded queue) ──▶ JSON, streams
"""

from __future__ import annotations

from .app import build_app
from .engine import Engine
from .serve import serve
from .settings import ServerSettings

__all__ = ["Engine", "ServerSettings", "build_app", "serve"]
