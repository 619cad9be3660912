"""Every command in the manual is run as it stands there, or says why not. How pages say so: support/documents.py."""

from __future__ import annotations

import doctest
import re
import shlex
from collections import Counter

import pytest

from support.documents import PAGES, ROOT, Block, blocks, commands_in_prose, prose
from support.manual_shell import Shell, commands, in_turn, unfit

NOT_RUN = {
    "docs/batch.md": 1,
    "docs/desktop.md": 4,
    "docs/embedding.md": 1,
    "docs/evaluation.md": 4,
    "docs/gpu.md": 3,
    "docs/parallel.md": 1,
    "docs/platforms.md": 4,
}
"""Blocks marked `not run`, by page. A new one belongs here, so that none is left out unnoticed."""

RUN = ("console", "python")
BY_NAME = {page.relative_to(ROOT).as_posix(): page for page in PAGES}
WITH_BLOCKS = {name: found for name, page in BY_NAME.items() if (found := list(blocks(page)))}
RUNNABLE = [name for name, found in WITH_BLOCKS.items() if any(each.language in RUN for each in found)]
SLOW = [name for name, found in WITH_BLOCKS.items() if any(each.mark == "slow" for each in found)]


def play(shell: Shell, page: str, *, slow: bool) -> None:
    """Run a page from top to bottom."""
    printed: str | None = None
    for block in WITH_BLOCKS[page]:
        if block.mark == "prints":
            assert block.language == "text", f"{block}: what is printed is ```text"
            if printed is not None:
                check_printed(block, printed)
        elif block.language in RUN:
            if block.mark == "not run" or (block.mark == "slow" and not slow):
                check_read(block)
                printed = None
            else:
                printed = shell.run(block)


def check_printed(block: Block, printed: str) -> None:
    checker, options = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    expected = block.text.replace("…", "...")
    assert checker.check_output(expected, printed, options), f"{block} differs from what is printed:\n{printed}"


def check_read(block: Block) -> None:
    """The options of commands that are not run exist, and Python is Python."""
    if block.language == "python":
        compile(block.text, block.page, "exec")
        return
    for command in commands(block.text):
        for arguments in in_turn(command) or []:
            problem = unfit(arguments)
            assert not problem, f"{block}: {command}\n{problem}"


@pytest.mark.parametrize("page", RUNNABLE)
def test_every_command_does_what_the_page_says(page: str, shell: Shell) -> None:
    play(shell, page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_the_long_commands_too(page: str, shell: Shell) -> None:
    play(shell, page, slow=True)


def test_blocks_that_are_not_run_are_counted_and_say_why() -> None:
    marked = [each for found in WITH_BLOCKS.values() for each in found if each.mark in ("not run", "slow")]
    assert Counter(each.page for each in marked if each.mark == "not run") == NOT_RUN
    assert not [str(each) for each in marked if len(each.reason) < 8]


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_commands_stand_in_blocks_that_are_run(page: str) -> None:
    """Not in blocks of another name, and not indented."""
    others = [each for each in WITH_BLOCKS[page] if each.language not in RUN]
    begins = re.compile(r"^(\$ |dream-edge |pip |python |curl )", re.MULTILINE)
    assert not [str(each) for each in others if each.mark != "prints" and begins.search(each.text)]
    assert not re.findall(r"^ {4,}(?:dream-edge|pip|python|curl) .*", prose(BY_NAME[page]), re.MULTILINE)


@pytest.mark.parametrize("page", BY_NAME)
def test_commands_in_sentences_have_options_that_exist(page: str) -> None:
    for line, command in commands_in_prose(BY_NAME[page]):
        problem = unfit(shlex.split(command.replace("[", "").replace("]", "")))
        assert not problem, f"{page}:{line}: `{command}`: {problem}"


def test_a_wrong_command_is_noticed(shell: Shell) -> None:
    for text in (
        "dream-edge generate nowhere -p x\n",
        "dream-edge info tiny --colour\n",
        "dream-edge info tiny | grep 'no such line'\n",
        "pip install 'dream-edge[cpu,gnu]'\n",
        "python -m pip install . --group undeveloped\n",
        "python benchmarks/scale.py ARTIFACT --tokenz 64\n",
    ):
        with pytest.raises(AssertionError, match=r"page\.md:1"):
            shell.run(Block("page.md", 1, "console", text))
