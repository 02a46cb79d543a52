"""What comes as the body of a request: bounded in bytes and in time, taken out of a form, or refused with a sentence."""

import asyncio
import io
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from hybridvit.errors import DataError, HybridVitError

HOW = (
    "send the picture's own bytes (curl --data-binary @picture.jpg ADDRESS), or a form with one file "
    "(curl -F file=@picture.jpg ADDRESS)"
)
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}[A-Za-z0-9+/_=\s-]*")
FIELDS = re.compile(rb"[\w.%+-]+=")


class TooLargeError(HybridVitError):
    """An upload has more bytes than allowed."""


class TooSlowError(HybridVitError):
    """An upload takes longer than allowed."""


class BusyError(HybridVitError):
    """More requests wait than the server takes on."""


class Budget:
    """Bytes that all requests together may hold."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def take(self, count: int) -> bool:
        """Whether there was room for them, which is theirs now."""
        if self.held + count > self.most:
            return False
        self.held += count
        return True


@asynccontextmanager
async def received(request: Request, budget: Budget, *, max_bytes: int, max_seconds: float) -> AsyncIterator[bytes]:
    """The picture's bytes, which count in the budget while the block lasts.

    What is over a limit is received but not kept, so that the sender hears why.

    Raises: TooLargeError, TooSlowError, BusyError; DataError for a body that holds no file.
    """
    body, size, held, is_full = bytearray(), 0, 0, False
    try:
        try:
            async with asyncio.timeout(max_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > max_bytes or is_full:
                        body.clear()
                    elif budget.take(len(part)):
                        held += len(part)
                        body += part
                    else:
                        is_full = True
        except TimeoutError as error:
            raise TooSlowError(
                f"After {max_seconds:g} seconds {size} bytes had come and no end: send faster, or a smaller file."
            ) from error
        if size > max_bytes:
            raise TooLargeError(f"The upload has {size} bytes, the limit is {max_bytes}. Send a smaller file.")
        if is_full:
            raise BusyError(f"The server holds {budget.held} bytes of uploads already. Try again in a moment.")
        yield await _picture_in(bytes(body), request.headers)
    finally:
        budget.held -= held


async def _picture_in(body: bytes, headers: Headers) -> bytes:
    """The body, or the only file of a form in it."""
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise _no_picture(f"the body is compressed (Content-Encoding: {encoding[:40]})")
    if not headers.get("content-type", "").startswith("multipart/"):
        return body
    try:
        form = await _InMemory(headers, _whole(body), max_files=8, max_fields=32).parse()
    except (MultiPartException, KeyError) as error:
        raise _no_picture(
            f"the body is no form, as its header says ({getattr(error, 'message', 'no boundary')})"
        ) from None
    pictures = [await field.read() for _, field in form.multi_items() if isinstance(field, UploadFile)]
    await form.close()
    if len(pictures) != 1:
        names = ", ".join(name for name, _ in form.multi_items())
        raise _no_picture(f"the form has {len(pictures)} files (its fields: {names[:80] or 'none'})")
    return pictures[0]


def what_came(data: bytes, content_type: str) -> DataError | None:
    """For bytes that are no picture: what they are instead, if that can be seen."""
    head = data[:4096].lstrip()
    kind = content_type.partition(";")[0].strip().lower()
    if not data:
        return _no_picture("the body is empty")
    if data[:2] == b"\x1f\x8b":
        return _no_picture("the body is compressed with gzip")
    if kind == "application/json" or head[:1] in (b"{", b"["):
        return _no_picture("the body is JSON")
    if head.startswith(b"data:") or BASE64.fullmatch(head):
        return _no_picture("the body is text in base64")
    if kind == "application/x-www-form-urlencoded" and FIELDS.match(head):
        return _no_picture("the body is the text fields of a form")
    return None


def _no_picture(what: str) -> DataError:
    return DataError(f"The upload cannot be read as a picture: {what}; {HOW}.")


class _InMemory(MultiPartParser):
    """Nothing is written to the disk: the body is in memory already, and bounded."""

    spool_max_size = 2**40


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    stream = io.BytesIO(body)
    while part := stream.read(65536):
        yield part
    yield b""
