"""Renders a chat template in a process of its own, as transformers would: run by `chat_template`, never imported.

Jinja's sandbox keeps a stranger's template from files and from Python. It does not keep one from running for ever, or
from taking all memory: that is what the process is for.
"""

import json
import sys
from contextlib import suppress
from typing import Any, NoReturn

LONGEST = 1 << 16
"""Characters of a text."""
MOST_MEMORY = 1 << 30  # bytes; where the system can bound them


def main() -> None:
    """From JSON on stdin, {"template": …, "probes": [variables, …]}, to the JSON of the texts on stdout."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def as_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    work = json.load(sys.stdin)
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse  # and no strftime_now: a date is no fact
    template, texts = environment.from_string(work["template"]), list[str]()
    for probe in work["probes"]:
        text = ""
        for piece in template.generate(**probe):
            text += piece
            if len(text) > LONGEST:
                sys.exit("a text is too long")
        texts.append(text)
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    main()
