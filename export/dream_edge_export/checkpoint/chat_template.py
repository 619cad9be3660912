"""From a checkpoint's chat template to facts: how its conversations are written, found by trying it.

A template is a program in Jinja. It is rendered here, once, on a few conversations that show what it does, and its
texts are compared with those that the runtime would write. The artifact gets the facts and never the program.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from dream_edge_runtime.chat_format import DREAM_CHAT, LONGEST_SYSTEM, ChatFormat, Thinking
from dream_edge_runtime.errors import UnreadableFile
from dream_edge_runtime.text.chat import NO_THOUGHTS, TURN_START, write_turns

from .config import content_of, read_object
from .forms import FORMS, find_architecture

_log = logging.getLogger(__name__)

_LARGEST = 1 << 18  # bytes; the published ones have 1 to 5 thousand
_PATIENCE = 20  # seconds

_SYSTEM, _USER, _ASSISTANT = ("system", " Be brief. "), ("user", "\n One? \n"), ("assistant", " Two.\n")
_PROBES: tuple[tuple[tuple[str, str], ...], ...] = (
    (_USER,),
    (_SYSTEM, _USER),
    (_USER, _ASSISTANT, _USER),
    (_SYSTEM, _USER, _ASSISTANT, _USER, _ASSISTANT, ("user", "Three?")),
    (_USER, ("assistant", "<think>\nHm.\n</think>\n\nFour."), _USER),
)
_THINKING: Mapping[tuple[str, ...], Thinking] = {
    ("", "", ""): "none",
    ("", "", NO_THOUGHTS): "on",
    (NO_THOUGHTS, "", NO_THOUGHTS): "off",
}
"""By what stands where an answer begins: with enable_thinking not given, true, and false."""
_FIRST_TURNS = re.compile(r"(?:<\|im_start\|>system\n(.*?)<\|im_end\|>\n)?<\|im_start\|>user\n.*", re.DOTALL)


def read_chat_format(directory: Path) -> ChatFormat | None:
    """How conversations are written to the model of the checkpoint in `directory`.

    Without a chat template it is Dream's. None where the template writes them in a way that the runtime cannot: a
    warning says so.

    Raises:
        UnreadableFile: the template or a file that may hold it is damaged.
    """
    settings = read_object(directory / "tokenizer_config.json")
    template = _find_template(directory, settings)
    if template is None:
        return DREAM_CHAT
    tokens = tuple((name, content_of(settings.get(name))) for name in ("bos_token", "eos_token"))
    found = _recognize(template, tokens)
    if found is None:
        _log.warning(
            "%s: its chat template is none that is known, so that the model will not chat. It continues texts: --raw",
            directory,
        )
        return None
    form = FORMS.get(find_architecture(read_object(directory / "config.json")))
    return replace(found, thinking="off") if found.thinking == "on" and form and form.is_silent else found


def _find_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    """The template where transformers looks for it: a file of its own first; of several, the one called default."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_bytes()[: _LARGEST + 1].decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableFile(file, f"cannot be read as UTF-8 text ({error})") from None
    stated = settings.get("chat_template", read_object(directory / "chat_template.json").get("chat_template"))
    if isinstance(stated, list):
        named = {each.get("name"): each.get("template") for each in stated if isinstance(each, dict)}
        stated = named.get("default")
    return stated if isinstance(stated, str) else None


@cache
def _recognize(template: str, tokens: tuple[tuple[str, str], ...]) -> ChatFormat | None:
    """The format that writes every probe as `template` does."""
    asked = [*product(_PROBES, (None, True, False))]
    probes = [
        {
            "messages": [{"role": role, "content": content} for role, content in turns],
            "add_generation_prompt": True,
            **dict(tokens),
            **({} if thinking is None else {"enable_thinking": thinking}),
        }
        for turns, thinking in asked
    ]
    texts = _render(template, probes) if len(template) <= _LARGEST else []
    first = _FIRST_TURNS.fullmatch(texts[0]) if texts else None
    thinking = _THINKING.get(tuple(text.rpartition(f"{TURN_START}assistant\n")[2] for text in texts[:3]))
    if first is None or thinking is None or len(first[1] or "") > LONGEST_SYSTEM:
        return None
    found = ChatFormat(system=first[1], thinking=thinking)
    written = [
        "".join(write_turns(turns, found, thinking=None if thinking == "none" else told)) for turns, told in asked
    ]
    return found if written == texts else None


def _render(template: str, probes: list[dict[str, Any]]) -> list[str]:
    """What `template` writes for each of the `probes`; nothing where it fails, or does not end."""
    program = [sys.executable, "-P", str(Path(__file__).with_name("template_sandbox.py"))]
    work = json.dumps({"template": template, "probes": probes})
    try:
        done = subprocess.run(program, input=work.encode(), capture_output=True, timeout=_PATIENCE, check=True)
        return [*map(str, json.loads(done.stdout))]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _log.debug("the chat template cannot be rendered: %s", error)
        return []
