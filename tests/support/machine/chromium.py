"""A headless Chromium for a test, told what to do over a pipe (the DevTools protocol); it asks nobody else."""

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.machine.dicom_programs import ENVIRONMENT, program, stop, wait_until

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--disable-features=OptimizationHints,MediaRouter,Translate", "--hide-scrollbars",
    "--remote-debugging-pipe", "--window-size=900,760",
    "--host-resolver-rules=MAP *.example 127.0.0.1",  # a stranger's name that points to this machine
)  # fmt: skip


class Browser:
    """A running browser; `tab` opens a page."""

    def __init__(self, writes: int, reads: int, downloads: Path) -> None:
        self._writes, self._reads = writes, reads
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self.downloads = downloads
        self._tabs: list[str] = []
        self.say("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def say(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for answer in self._received(1.0):
                if answer.get("id") == self._number:
                    assert "error" not in answer, answer
                    return answer["result"]
                self.events.append(answer)
        raise AssertionError(f"Chromium does not answer {method}")

    def _received(self, seconds: float) -> Iterator[dict[str, Any]]:
        if select.select([self._reads], [], [], seconds)[0]:
            data = os.read(self._reads, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        *whole, self._rest = self._rest.split(b"\0")
        yield from map(json.loads, whole)

    def tab(self, *, scripts: bool = True, language: str = "en") -> "Tab":
        """Open a tab."""
        target = self.say("Target.createTarget", url="about:blank")["targetId"]
        session = self.say("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._tabs.append(target)
        tab = Tab(self, session, has_scripts=scripts)
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
            tab.say(f"{domain}.enable")
        tab.say("Emulation.setUserAgentOverride", userAgent="test", acceptLanguage=language)
        if not scripts:
            tab.say("Emulation.setScriptExecutionDisabled", value=True)
        return tab

    def close_tabs(self) -> None:
        """Close every tab, and forget what they have said: the next test begins anew."""
        while self._tabs:
            self.say("Target.closeTarget", targetId=self._tabs.pop())
        list(self._drain())
        self.events.clear()

    def complaints(self) -> list[str]:
        """Return what the browser has complained of: errors of scripts, violations of the policy."""
        list(self._drain())
        wanted = {"Log.entryAdded", "Runtime.exceptionThrown"}
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in wanted]

    def _drain(self) -> Iterator[None]:
        for event in self._received(0.0):
            self.events.append(event)
            yield


class Tab:
    """One tab."""

    def __init__(self, browser: Browser, session: str, *, has_scripts: bool) -> None:
        self.browser = browser
        self.session = session
        self._has_scripts = has_scripts

    def say(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.say(method, self.session, **parameters)

    def open(self, url: str) -> None:
        """Go to an address and wait until something is there."""
        self.say("Page.navigate", url=url)
        wait_until(self.text, what=f"{url} to be shown")
        if self._has_scripts:
            wait_until(lambda: self.run("document.readyState") == "complete", what=f"{url} to be drawn")

    def run(self, script: str) -> Any:
        """Return what a script of the test's own says of the page."""
        answer = self.say("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def html(self) -> str:
        """Return the page as it stands, whether scripts may run in it or not."""
        root = self.say("DOM.getDocument", depth=0)["root"]["nodeId"]
        return str(self.say("DOM.getOuterHTML", nodeId=root)["outerHTML"])

    def text(self) -> str:
        """Return everything assistive programs read of the page, line by line."""
        nodes = self.say("Accessibility.getFullAXTree")["nodes"]
        read = [node for node in nodes if not node.get("ignored") and node["role"]["value"] == "StaticText"]
        return "\n".join(node["name"]["value"] for node in read)

    def wait_for(self, sentence: str, *, seconds: float = 20) -> None:
        wait_until(lambda: sentence in self.text(), seconds=seconds, what=f"{sentence!r} in {self.text()!r}")

    def screenshot(self, path: Path) -> Path:
        """Keep what the page looks like."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.say("Page.captureScreenshot", format="png")["data"]))
        return path


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Run a Chromium whose profile and downloads lie below `folder`, until the block ends."""
    folder.mkdir(exist_ok=True)
    downloads = folder / "downloads"
    downloads.mkdir()
    there_in, writes = os.pipe()
    reads, there_out = os.pipe()
    # Chromium expects its ends of the pipe under the numbers 3 and 4
    argv = ["bash", "-c", 'exec "${@:3}" 3<&"$1" 4>&"$2"', "bash", str(there_in), str(there_out)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*argv, program("chromium"), *OPTIONS, f"--user-data-dir={folder}/profile", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(there_in, there_out),
            env={**ENVIRONMENT, "HOME": str(folder)},
        )
    for descriptor in (there_in, there_out):
        os.close(descriptor)
    try:
        yield Browser(writes, reads, downloads)
    finally:
        stop(process, seconds=5)
        os.close(writes)
        os.close(reads)
