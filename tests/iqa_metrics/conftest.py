"""A browser that opens reports, and fails on errors and requests."""

import shutil

import pytest

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


# Not for the whole session: meanwhile, tests that run an event loop of their own would fail.
@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(names)} is on the PATH")
    with sync_api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, headless=True, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture
def opened(browser):
    """Open pages; fail on any error or warning and any request to another address."""
    troubles, pages = [], []

    def watched(folder, width=1280, hash="", **settings):
        one = browser.new_page(viewport={"width": width, "height": 900}, **settings)
        one.set_default_timeout(5000)
        pages.append(one)
        one.on("console", lambda m: m.type in ("error", "warning") and troubles.append(m.text))
        one.on("pageerror", lambda error: troubles.append(str(error)))
        one.on(
            "request",
            lambda r: r.url.startswith(("file:", "data:")) or troubles.append(r.url),
        )
        one.goto((folder / "report.html").as_uri() + hash)
        return one

    yield watched
    for one in pages:
        one.close()
    assert troubles == []
