from collections.abc import Iterator

import openai
import pytest

from support.serving import ready


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server of the tiny model."""
    with ready() as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5) as opened:
        yield opened
