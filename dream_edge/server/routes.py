"""The routes: texts, the state of the server, and the page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dream_edge.openai.messages_api import MessagesRequest, prepare_message
from dream_edge.openai.requests import (
    AlternativesRequest,
    ChatRequest,
    CompletionRequest,
    FillRequest,
    FimRequest,
    InfillRequest,
)
from dream_edge.openai.response_formats import LlamaInfill
from dream_edge.openai.responses_api import ResponsesRequest, prepare_response
from dream_edge.openai.texts import prepare_chat, prepare_completion, prepare_fill, prepare_fim
from dream_edge.openai.validation import check_model, parse_body

from .openapi import TypedErrorReply, describe
from .service import Service


class StrictRoute(APIRoute):
    """Reads bodies with `parse_body`, and before FastAPI does, which words whatever goes wrong there itself."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            strict = ParsedRequest(request.scope, request.receive)
            if body := await strict.body():
                strict.parsed = parse_body(body)
            return await handle(strict)

        return handle_strictly


class ParsedRequest(Request):
    """A request whose body has been parsed."""

    parsed: Any = None

    async def json(self) -> Any:
        return self.parsed


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(_service)]

# --- texts -----------------------------------------------------------------------------------------------------------

texts: APIRouter = APIRouter(route_class=StrictRoute)


@texts.post("/v1/chat/completions", **describe("An answer to a conversation.", streams=True))
async def chat_completions(request: Request, body: ChatRequest, service: Here) -> Response:
    return await service.answer(request, body, prepare_chat)


@texts.post("/v1/responses", **describe("The same, as OpenAI's newer clients ask.", streams=True))
async def responses(request: Request, body: ResponsesRequest, service: Here) -> Response:
    return await service.answer(request, body, prepare_response)


@texts.post("/v1/messages", **describe("The same, as Anthropic's clients ask.", streams=True, refusal=TypedErrorReply))
async def messages(request: Request, body: MessagesRequest, service: Here) -> Response:
    return await service.answer(request, body, prepare_message)


@texts.post("/v1/messages/count_tokens", **describe("How many tokens it is given.", refusal=TypedErrorReply))
async def count_tokens(request: Request, body: MessagesRequest, service: Here) -> Response:
    return await service.count_tokens(request, body, prepare_message)


@texts.post("/v1/completions", **describe("A text after a prompt, or between it and a suffix.", streams=True))
async def completions(request: Request, body: CompletionRequest, service: Here) -> Response:
    return await service.answer(request, body, prepare_completion)


@texts.post("/v1/fim/completions", **describe("A text between two others.", streams=True))
async def fim_completions(request: Request, body: FimRequest, service: Here) -> Response:
    return await service.answer(request, body, prepare_fim)


@texts.post("/infill", **describe("The same, for clients of llama.cpp.", streams=True))
async def infill(request: Request, body: InfillRequest, service: Here) -> Response:
    if body.n_predict == 0:
        return JSONResponse(LlamaInfill(service.served).empty())
    return await service.answer(request, body.as_fim(), partial(prepare_fim, form=LlamaInfill))


@texts.post(
    "/v1/fill", **describe("Holes anywhere in a text, words to be rewritten, drafts to be checked.", streams=True)
)
async def fill(request: Request, body: FillRequest, service: Here) -> Response:
    return await service.answer(request, body, prepare_fill)


@texts.post("/v1/alternatives", **describe("The likeliest tokens in one place of a text."))
async def alternatives(request: Request, body: AlternativesRequest, service: Here) -> Response:
    return await service.find_alternatives(request, body)


# --- the state of the server -----------------------------------------------------------------------------------------

state: APIRouter = APIRouter()


@state.get("/v1/models", **describe("The model."))
async def models(service: Here) -> Response:
    return JSONResponse({"object": "list", "data": [service.card]})


@state.get("/v1/models/{name:path}", **describe("The model."))
async def model(name: str, service: Here) -> Response:
    if not name:  # the list, with a slash at its end
        return await models(service)
    check_model(name, service.served)
    return JSONResponse(service.card)


@state.get("/health", **describe("503 while the model is loaded; then 200, ready or busy."))
async def health(service: Here) -> Response:
    engine = service.engine
    if engine.state != "ready":
        return JSONResponse({"status": engine.state, "waiting": 0}, 503)
    return JSONResponse({"status": "busy" if engine.running else "ready", "waiting": engine.waiting})


@state.get("/metrics", **describe("Counts, as Prometheus reads them.", media_type="text/plain"))
async def counts(service: Here) -> Response:
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


# --- the page: a few files of the package, and nothing from anywhere else --------------------------------------------

page: APIRouter = APIRouter(include_in_schema=False)

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@page.get("/page/{name}")
async def page_file(name: str) -> Response:
    folder = resources.files(__package__) / "page"
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    if name not in files:
        raise HTTPException(404)
    kind = _KINDS["." + name.rpartition(".")[2]]
    return Response(files[name].read_bytes(), media_type=f"{kind}; charset=utf-8", headers=_PAGE_HEADERS)


@page.get("/")
async def index() -> Response:
    return await page_file("index.html")
