"""A headless Chromium for tests of pages: the one that the system has."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def open_page(
    url: str, *, width: int = 1000, height: int = 900, dark: bool = False, expect: str = "\n"
) -> Iterator[Any]:
    """A page of Playwright's. Leaving it fails if the page threw an error, logged one, or asked another host for anything.

    `expect`: errors that hold this text are expected.

    Without Chromium the test is skipped, and fails where CI is set: there it must run.
    """
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no chromium on this machine (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        own = url.split("/")[2]
        page.on("request", lambda request: _is_foreign(request.url, own) and complaints.append(f"asked {request.url}"))
        page.goto(url)
        yield page
        browser.close()
    unexpected = [complaint for complaint in complaints if expect not in complaint]
    assert not unexpected, unexpected


def _is_foreign(url: str, own: str) -> bool:
    return not url.startswith(("data:", "blob:", "file:", f"http://{own}/"))
