"""A real browser for these tests: Debian's Chromium, driven by Playwright; skipped without."""

from __future__ import annotations

import os
import shutil

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    driver = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    # As root, in a container, its sandbox cannot start.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with driver.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


@pytest.fixture
def open_page(browser):
    """A function that opens a file; at the end nothing may have been asked of a network."""
    contexts, complaints = [], []

    def open_file(path, *, width=1400, height=900, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            accept_downloads=True,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text))
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith(("file:", "blob:", "data:")) or complaints.append(asked.url)
            ),
        )
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert complaints == []
