"""Pages in a headless Chromium: how wide they become, what they ask for, what they complain of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_HARNESS = """<!doctype html><meta charset="utf-8"><body><script>
function look(frame) {{
  const page = frame.contentDocument, root = page.documentElement;
  const closed = root.scrollWidth;
  page.querySelectorAll("details").forEach(d => d.open = true);
  const first = page.querySelector("a, button, input, select, textarea, summary, [tabindex]");
  return {{
    width: root.clientWidth, closed: closed, open: root.scrollWidth,
    asked: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
    first: first === null ? "" : first.textContent,
    background: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
  }};
}}
onload = () => {{
  const frames = [...document.querySelectorAll("iframe")];
  document.body.dataset.answer = JSON.stringify(frames.map(look));
}};
</script>{frames}"""


@dataclass(frozen=True)
class Visit:
    """What became of one page, with all its ``<details>`` closed as they come, and all of them open."""

    width: int
    closed: int
    open: int
    asked: list[str]
    first: str
    background: str


def browser() -> str:
    """Path of a Chromium. Without one the test is skipped; under CI it fails, lest it never run anywhere."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    reason = f"none of {', '.join(_NAMES)} is installed; on Debian: apt-get install --no-install-recommends chromium"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def visit(pages: Sequence[str], folder: Path, *, width: int = 360, dark: bool = False) -> tuple[list[Visit], list[str]]:
    """Open pages side by side, each in a frame of the given width; return them and what the console says."""
    frames = [
        f'<iframe style="border: 0; width: {width}px; height: 2000px" srcdoc="{escape(page)}"></iframe>'
        for page in pages
    ]
    harness = folder / "harness.html"
    harness.write_text(_HARNESS.format(frames="".join(frames)), encoding="utf-8")
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        "--v=0",
        "--dump-dom",
        harness.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    _, found, rest = done.stdout.partition('data-answer="')
    assert found, f"the browser gave no answer:\n{done.stderr}"
    answers: list[dict[str, Any]] = json.loads(unescape(rest.partition('"')[0]))
    return [Visit(**answer) for answer in answers], [line for line in done.stderr.splitlines() if "CONSOLE" in line]
