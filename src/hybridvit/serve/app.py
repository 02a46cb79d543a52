"""The server: a page for people, JSON for programs, described by /openapi.json.

Pictures come as the body of a POST, as they are in the file, or as the one file of a form:

    curl --data-binary @cat.jpg http://127.0.0.1:8000/api/predict
    curl -F file=@cat.jpg http://127.0.0.1:8000/api/predict

All models run on one thread, in batches; pictures are decoded beside it. What is held at once is bounded (Limits).
Errors are JSON: {"error": kind, "reason": sentence}.
"""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from torch import nn

from hybridvit.attribution.explain import explain as explain_picture
from hybridvit.attribution.explain import names_of, preprocess_of
from hybridvit.attribution.explanation import Explanation, Method
from hybridvit.attribution.geometry import View, view
from hybridvit.attribution.record import sites
from hybridvit.data.decode import decode
from hybridvit.errors import ConfigError, DataError, HybridVitError
from hybridvit.evaluation.metrics import most_probable
from hybridvit.render.figures import Scale
from hybridvit.serve.batching import Batcher
from hybridvit.serve.uploads import Budget, BusyError, TooLargeError, TooSlowError, received, what_came

LAYER_SIDE = 512
"""Longest side, in pixels, of the maps that are sent."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    max_bytes: int = 20_000_000
    """Of one upload."""
    max_pixels: int = 40_000_000
    """Of one picture, by its header, before it is decoded."""
    max_batch: int = 32
    max_waiting: int = 256
    """Requests of a model that wait for a decoder or for the model; more are turned away."""
    max_held: int = 256_000_000
    """Bytes of all uploads together that are being received or wait for a decoder; more are turned away."""
    max_decoding: int = 2
    """Pictures that are decoded, or that maps are made for, at a time: so many times max_pixels are in memory at most."""
    max_seconds: float = 60
    """Of one upload, from its first byte to its last."""
    hosts: frozenset[str] | None = frozenset({"127.0.0.1", "localhost", "[::1]"})
    """Names under which the server may be addressed; None: any. Keeps other sites' pages, let in by a forged name, out."""


class Stage(BaseModel):
    blocks: int
    heads: int
    class_token: bool
    query_grid: tuple[int, int] = Field(description="rows and columns")
    key_grid: tuple[int, int]


class ModelCard(BaseModel):
    name: str
    architecture: str
    parameters: int
    image_size: tuple[int, int] = Field(description="height and width of the model's input, in pixels")
    classes: list[str]
    stages: list[Stage]


class Guess(BaseModel):
    index: int
    label: str
    probability: float


class Prediction(BaseModel):
    model: str
    width: int = Field(description="of the picture, in pixels, turned upright")
    height: int
    top: list[Guess]


class Map(Prediction):
    title: str
    unit: str = Field(description="what low and high mean")
    low: float = Field(description="the value of the first colour")
    high: float
    signed: bool
    layer: str = Field(description="RGBA picture of the map, as PNG in a data URI, to be laid on the whole picture")
    seen: tuple[int, int, int, int] = Field(description="left, top, right, bottom of what the model sees, in pixels")


class Problem(BaseModel):
    error: str = Field(description="its kind")
    reason: str = Field(description="what was found, what was expected, what to do")


STATUS = {TooSlowError: 408, TooLargeError: 413, BusyError: 503}
_BINARY = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _BINARY},
            "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _BINARY}}},
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "addressed by a foreign host name"},
    408: {"model": Problem, "description": "the upload took too long"},
    413: {"model": Problem, "description": "too many bytes"},
    422: {"model": Problem, "description": "no picture, too many pixels, or an option that the model does not have"},
    503: {"model": Problem, "description": "too many requests wait"},
}


def create_app(models: Mapping[str, nn.Module], limits: Limits | None = None) -> FastAPI:
    """The application, to be run by any ASGI server. `models`: by the name that requests call them."""
    for name, model in models.items():
        task = getattr(model, "task", None) or "classification"
        if task != "classification":
            raise ConfigError(
                f"{name} is made for {task}; the page shows classifiers. Use `hybridvit predict --draw DIR`."
            )
    limits = limits or Limits()
    executor = ThreadPoolExecutor(1, thread_name_prefix="model")
    batchers = {
        name: Batcher(model.eval(), executor, max_batch=limits.max_batch, max_waiting=limits.max_waiting)
        for name, model in models.items()
    }
    page = files("hybridvit.serve").joinpath("page.html").read_text(encoding="utf-8")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        executor.shutdown(cancel_futures=True)

    async def check_host(request: Request) -> None:
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if limits.hosts is not None and name not in limits.hosts:
            raise HTTPException(400, f"This server does not answer to the name {name!r}.")

    async def choose(
        model: Annotated[str | None, Query(description="a name of /api/models; the first by default")] = None,
    ) -> str:
        if model is not None and model not in models:
            raise ConfigError(f"There is no model {model!r}. Choose one of {', '.join(models)}.")
        return model or next(iter(models))

    budget = Budget(limits.max_held)
    decoding = asyncio.Semaphore(limits.max_decoding)

    def receiving(request: Request) -> AbstractAsyncContextManager[bytes]:
        return received(request, budget, max_bytes=limits.max_bytes, max_seconds=limits.max_seconds)

    async def decoded(request: Request, data: bytes, name: str) -> View:
        if await request.is_disconnected():
            raise ClientDisconnect
        try:
            return await asyncio.to_thread(_decode, data, models[name], limits.max_pixels)
        except DataError as error:
            raise what_came(data, request.headers.get("content-type", "")) or error from None

    Name = Annotated[str, Depends(choose)]
    Top = Annotated[int, Query(ge=1, le=1000, description="how many classes")]

    app = FastAPI(
        title="hybridvit",
        version=version("hybridvit"),
        description=__doc__,
        docs_url=None,  # it would load its scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        dependencies=[Depends(check_host)],
    )
    app.state.batchers = batchers

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> str:
        return page

    @app.get("/health")
    async def health() -> dict[str, int | str]:
        """Whether the server runs, and how many pictures wait."""
        return {"status": "ok", "waiting": sum(batcher.num_waiting for batcher in batchers.values())}

    @app.get("/api/models")
    async def list_models() -> list[ModelCard]:
        """The models that are served, and what can be asked of them."""
        return [_card(name, model) for name, model in models.items()]

    @app.post("/api/predict", responses=_PROBLEMS, openapi_extra=_BODY)
    async def predict(request: Request, name: Name, top: Top = 5) -> Prediction:
        """The most probable classes of a picture."""
        with ExitStack() as until_answered:
            async with receiving(request) as data:
                until_answered.enter_context(batchers[name].place())
                async with decoding:
                    seen = await decoded(request, data, name)
            size, input_1CHW = seen.size, seen.input_1CHW
            del seen, data  # the picture's pixels do not wait
            logits = await batchers[name].logits(input_1CHW)
        probabilities = logits.double().softmax(dim=0).numpy()
        return Prediction(**_prediction(name, models[name], size, probabilities, top))

    @app.post("/api/explain", responses=_PROBLEMS, openapi_extra=_BODY)
    async def explain(
        request: Request,
        name: Name,
        method: Method = "attention",
        x: Annotated[float | None, Query(description="a point of the picture, in pixels: show what it reads")] = None,
        y: float | None = None,
        stage: int | None = None,
        block: int | None = None,
        head: int | None = None,
        label: Annotated[str | None, Query(description="name or number of the class to explain")] = None,
        top: Top = 5,
    ) -> Map:
        """What the model looks at in a picture, as a layer to put upon it."""
        if (x is None) != (y is None):
            raise ConfigError("A point has two coordinates: give both x and y, or neither.")
        options: dict[str, Any] = {"stage": stage, "block": block, "head": head, "label": label}
        options["query"] = None if x is None or y is None else (x, y)
        async with receiving(request) as data:
            with batchers[name].place():
                async with batchers[name].turn:
                    seen = await decoded(request, data, name)
                    work = partial(explain_picture, models[name], seen, method=method, **options)
                    found = await asyncio.get_running_loop().run_in_executor(executor, work)
                    scale, layer = await asyncio.to_thread(_layer, found.sized(min(LAYER_SIDE, max(seen.picture.size))))
        rows, columns = seen.seen
        return Map(
            **_prediction(name, models[name], seen.size, found.probabilities, top),
            title=found.title,
            unit=scale.unit,
            low=scale.low,
            high=scale.high,
            signed=found.is_signed,
            layer=layer,
            seen=(columns.start, rows.start, columns.stop, rows.stop),
        )

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it; without it a traceback would be written

    @app.exception_handler(HybridVitError)
    async def user_error(_: Request, error: HybridVitError) -> JSONResponse:
        return _problem(STATUS.get(type(error), 422), type(error).__name__, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, "HTTPError", str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def query_error(_: Request, error: RequestValidationError) -> JSONResponse:
        found = "; ".join(f"{each['loc'][-1]}: {each['msg']}, found {each['input']!r}" for each in error.errors())
        return _problem(422, "QueryError", found)

    @app.exception_handler(Exception)
    async def own_error(_: Request, error: Exception) -> JSONResponse:
        return _problem(500, type(error).__name__, "The server made a mistake; its log says more.")

    return app


def _decode(data: bytes, model: nn.Module, max_pixels: int) -> View:
    preprocess = preprocess_of(model)
    return view(decode(data, name="The upload", channels=preprocess.in_chans, max_pixels=max_pixels), preprocess)


def _layer(found: Explanation) -> tuple[Scale, str]:
    layer = found.layer()
    buffer = io.BytesIO()
    Image.fromarray(layer.rgba_HW4, "RGBA").save(buffer, "PNG")
    return layer.scale, "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _prediction(
    name: str, model: nn.Module, size: tuple[int, int], probabilities: np.ndarray, top: int
) -> dict[str, Any]:
    labels = names_of(model, len(probabilities))
    return {
        "model": name,
        "width": size[1],
        "height": size[0],
        "top": [
            Guess(index=k, label=labels[k], probability=float(probabilities[k]))
            for k in most_probable(probabilities, top)
        ],
    }


def _card(name: str, model: Any) -> ModelCard:
    preprocess = preprocess_of(model)
    last_of_stage = {site.stage: site for site in sites(model, preprocess.image_size)}
    return ModelCard(
        name=name,
        architecture=model.pretrained_cfg["architecture"],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        image_size=preprocess.image_size,
        classes=list(names_of(model, model.num_classes)),
        stages=[
            Stage(
                blocks=site.block + 1,
                heads=model.config.heads[number],
                class_token=getattr(model.stages[number], "cls_token", None) is not None,
                query_grid=site.query_grid,
                key_grid=site.key_grid,
            )
            for number, site in last_of_stage.items()
        ],
    )


def _problem(status: int, kind: str, reason: str) -> JSONResponse:
    return JSONResponse(Problem(error=kind, reason=reason).model_dump(), status_code=status)
