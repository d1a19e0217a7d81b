"""Headless Chromium on one page: what it draws, says on the console, and asks the network for."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
HEIGHT = 900

# Of each drawn point: its row, and what its place on the page says by the chart's scales.
DRAWN = """
const view = views[arguments[0]];
return [...document.querySelectorAll(`#${CSS.escape(arguments[0])} .${arguments[1]}_marks path`)].map((path) => {
  const place = path.transform.baseVal[0].matrix;
  return [path.__data__.datum.row, view.scale("x").invert(place.e), place.f, path.__data__.size];
});
"""


class Browser:
    def __init__(self, user_data: Path) -> None:
        options = webdriver.ChromeOptions()
        assert CHROMIUM and DRIVER
        options.binary_location = CHROMIUM
        for argument in (*ARGUMENTS, "--hide-scrollbars", f"--user-data-dir={user_data}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
        """Load a page and have it draw every chart."""
        self.emulate(width=width, scheme=scheme)
        self.console(), self.requests()  # what came before
        self.driver.get(page.resolve().as_uri())
        loaded = "return document.readyState === 'complete' && typeof drawAll === 'function'"
        WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(loaded))
        outcome = self.driver.execute_async_script(
            "const done = arguments[0]; drawAll().then(() => done('drawn'), (error) => done(String(error)));"
        )
        assert outcome == "drawn"

    def emulate(self, *, width: int, scheme: str) -> None:
        size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """Everything written to the console since it was last asked, warnings too."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses asked for since it was last asked."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("chrome://", "chrome-untrusted://"))]  # a new tab's own

    def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """The page from its top, whole or as far as `height`."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self.driver.quit()


def assert_clean(browser, page: Path) -> None:
    """Nothing on the console, nothing asked for but the page, nothing wider than the screen, nothing attacked."""
    assert browser.console() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("return window.attacked") is None
    empty = "return [...document.querySelectorAll('.chart')].filter((each) => !each.querySelector('svg')).length"
    assert browser.run(empty) == 0


def shown_rows(browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('#scores tbody tr')].map((row) => row.dataset.row)")


def main() -> None:
    """`python tests/browser.py PAGE PNG WIDTH [HEIGHT] [light|dark]`: the pictures of docs/."""
    page, picture, width, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        browser.open(Path(page), width=int(width), scheme=rest[1] if len(rest) > 1 else "light")
        time.sleep(0.5)  # fonts and layout come to rest
        browser.screenshot(Path(picture), height=int(rest[0]) if rest else None)
        browser.close()


if __name__ == "__main__":
    main()
