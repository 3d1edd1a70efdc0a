"""Options and fixtures of all tests."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# How long an example takes, and making one, tells more of what else the machine does than of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# What it asserts is to tell the values, as in a test's own module.
pytest.register_assert_rewrite("sinks.rig")

# A developer's own settings must not change what tests see.
for _name in [name for name in os.environ if name.startswith("EVENTSTORM_")]:
    del os.environ[_name]

# A shell starts what it puts in the background with SIGINT ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that leave tests out; nothing else leaves out any."""
    parser.addoption("--no-browser", action="store_true", help="leave out the tests that need Chromium")
    parser.addoption("--no-servers", action="store_true", help="leave out the tests that need nginx, Postfix, sshd")
    parser.addoption("--no-install", action="store_true", help="leave out the tests that install packages")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what an option leaves out."""
    for mark in ("browser", "install", "servers"):
        if config.getoption(f"--no-{mark}"):
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=f"--no-{mark}"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium; tests that use it are marked `browser`."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.fail("Chromium is not installed; install it, or leave these tests out with --no-browser")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """The system's Chromium, running."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
