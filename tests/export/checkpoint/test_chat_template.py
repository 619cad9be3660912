"""What a checkpoint's chat template does becomes facts; what the runtime cannot write is refused, never guessed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dream_edge_export.checkpoint import chat_template as program
from dream_edge_export.checkpoint.chat_template import read_chat_format
from dream_edge_runtime.chat_format import DREAM_CHAT, ChatFormat
from dream_edge_runtime.errors import UnreadableFile
from tools.synthetic.vocabulary import chat_template

QWEN3 = chat_template(None, thinks=True)
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def write(directory: Path, template: Any, **config: Any) -> Path:
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "<|im_end|>"}))
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize("system", ["You are a helpful assistant.", "You are Qwen.\nBe kind.", "", None])
def test_default_system_turn_is_found(tmp_path: Path, system: str | None) -> None:
    assert read_chat_format(write(tmp_path, chat_template(system))) == ChatFormat(system=system)


def test_thinking_is_found(tmp_path: Path) -> None:
    assert read_chat_format(write(tmp_path, QWEN3)) == ChatFormat(system=None, thinking="on")


def test_thinking_may_be_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    silent = QWEN3.replace("enable_thinking is defined and enable_thinking is false", "enable_thinking is not true")
    assert silent != QWEN3
    silent = silent.replace("enable_thinking is not true", "not (enable_thinking | default(false))")
    assert read_chat_format(write(tmp_path, silent)) == ChatFormat(system=None, thinking="off")


def test_a2d_of_qwen3_thinks_only_when_asked_to(tmp_path: Path) -> None:
    """Its own code passes enable_thinking=False where nothing is said, in training too."""
    found = read_chat_format(write(tmp_path, QWEN3, architectures=["A2DQwen3LMHeadModel"]))
    assert found == ChatFormat(system=None, thinking="off")


def test_file_of_its_own_comes_first(tmp_path: Path) -> None:
    write(tmp_path, chat_template("Not this."))
    (tmp_path / "chat_template.jinja").write_text(chat_template("This."))
    assert read_chat_format(tmp_path) == ChatFormat(system="This.")


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "{{ 1 / 0 }}"}, {"name": "default", "template": chat_template(None)}]
    assert read_chat_format(write(tmp_path, several)) == ChatFormat(system=None)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": chat_template("Here.")}))
    assert read_chat_format(tmp_path) == ChatFormat(system="Here.")


def test_without_a_template_it_is_dreams(tmp_path: Path) -> None:
    write(tmp_path, None)
    assert read_chat_format(tmp_path) == DREAM_CHAT


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",  # other markers
        TURNS.replace("m.content", "m.content | trim") + "<|im_start|>assistant\n",  # other contents
        TURNS + "<|im_start|>assistant\n<think>\n",  # thoughts that nobody can switch off
        "{{ bos_token }}" + TURNS + "<|im_start|>assistant\n",
        TURNS + "{% if enable_thinking is defined %}/think{% endif %}<|im_start|>assistant\n",
        QWEN3.replace(".lstrip('\\n')", ""),  # earlier answers begin otherwise
        TURNS,  # the answer is not opened
        "<|im_start|>system\nThe date is {{ strftime_now('%Y') }}.<|im_end|>\n" + TURNS + "<|im_start|>assistant\n",
        "{% for m in messages %}{{ raise_exception('no') }}{% endfor %}",
        "{% for m in",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ 'a' * 10 ** 6 }}",
        "x" * (1 << 19),
        "",
    ],
)
def test_what_cannot_be_written_is_not_guessed(tmp_path: Path, template: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_chat_format(write(tmp_path, template)) is None
    assert f"{tmp_path}: its chat template is none that is known" in caplog.text
    assert "--raw" in caplog.text


def test_a_template_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_PATIENCE", 0.5)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    assert read_chat_format(write(tmp_path, endless)) is None


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded otherwise there, or not at all")
def test_a_template_that_takes_too_much_memory_is_given_up(tmp_path: Path) -> None:
    """Though what it takes is never written."""
    greedy = "{% set text = 'a' * count %}" + chat_template(None)
    assert read_chat_format(write(tmp_path, greedy.replace("count", "2"))) == ChatFormat(system=None)
    assert read_chat_format(write(tmp_path, greedy.replace("count", "1500000000"))) is None


def test_a_template_sees_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for template in ("{% include 'secret' %}", f"{{% import '{tmp_path}/secret' as s %}}"):
        assert read_chat_format(write(tmp_path, template)) is None


def test_damaged_template_is_named(tmp_path: Path) -> None:
    write(tmp_path, None)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(UnreadableFile, match=r"chat_template\.jinja"):
        read_chat_format(tmp_path)


def test_jinja_is_never_imported_here() -> None:
    code = "import sys, dream_edge_export.checkpoint.chat_template as m; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
