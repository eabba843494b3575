"""Pages as people and browsers see them."""

import json
import re
from pathlib import Path
from typing import Any

LOCAL = ("file:", "data:", "blob:")


def without_plotly(report: Path) -> str:
    """The page without plotly's own source."""
    return re.sub(r"<script>/\*\*.*?</script>", "", report.read_text(), flags=re.DOTALL)


def words_of(page: str) -> str:
    """What people read, without markup and line breaks."""
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def titles_of(page: str) -> dict[str, list[str]]:
    """Chart -> titles of its horizontal and vertical axis."""
    layouts = {name: chart["layout"] for name, chart in data_of(page)["charts"].items()}
    return {name: [layout[f"{axis}axis"]["title"]["text"] for axis in "xy"] for name, layout in layouts.items()}


def opened(browser: Any, report: Path, width: int, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page without a network, and the list to which its errors and requests are added."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    tab = context.new_page()
    troubles: list[str] = []
    tab.on("console", lambda message: troubles.append(message.text) if message.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("request", lambda request: troubles.append(request.url) if not request.url.startswith(LOCAL) else None)
    tab.goto(report.resolve().as_uri(), timeout=120_000)  # milliseconds; busy machines take long
    tab.wait_for_selector(".chart .main-svg")
    return tab, troubles
