"""What the panel costs: opening it in the kernel, and colouring a run's picture in a browser.

python benchmarks/panel.py            # half a minute; writes its part of RESULTS.md

Needs Chromium (PULPO_CHROMIUM, or on the PATH) and playwright, as the browser tests do.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from _graphs import layered, typed_functions
from _measure import median, ms, quickest, ratio, table
from _report import circumstances, write_part

from pulpo.backends.live import Moment, Stage, moments_of, staged
from pulpo.backends.render import _finished, draw
from pulpo.backends.scene import scene
from pulpo.registry import OperationRegistry
from pulpo.session import Session
from pulpo.widgets.content import look
from pulpo.widgets.panel import Panel

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/browser"))

UPDATES = 50
_COLOUR = """async ([frames, pictures]) => {
    const times = { moments: [], whole: [] }, gaps = [];
    let last = performance.now(), going = true;
    const tick = now => {
        gaps.push(now - last);
        last = now;
        if (going) requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    const timed = async (name, act) => {
        const start = performance.now();
        act();
        document.body.offsetHeight;  // lay it out now
        times[name].push(performance.now() - start);
        await new Promise(done => setTimeout(done, 100));
    };
    for (const frame of frames) await timed("moments", () => model.set("moments", frame));
    going = false;
    const stage = document.createElement("div");
    document.body.append(stage);
    for (const picture of pictures) await timed("whole", () => { stage.innerHTML = picture });
    return { ...times, gaps };
}"""


def main() -> None:
    parts = [opening(), colouring()]
    for part in parts:
        print(f"\n{part}", flush=True)
    write_part("The panel: panel.py", [circumstances("panel.py", _VERSIONS), *parts])


_VERSIONS = {"pulpo": "pulpo", "ipywidgets": "ipywidgets", "anywidget": "anywidget"}


def opening() -> str:
    rows = []
    for count in (100, 1000):
        session = _session(count)
        look(session)

        def everything(session: Session = session) -> None:
            _finished.cache_clear()  # the pictures are drawn, too
            panel = Panel(session)
            panel._repr_mimebundle_()
            panel.close()

        found = quickest({"check": session.check, "panel": everything}, rounds=5)
        panel, check = found["panel"], found["check"]
        rows.append((f"{count:,}", ms(check), ms(panel), ratio(panel / check)))
    head = ("operations", "%pulpo check", "panel", "panel : check")
    return (
        "## Opening\nMilliseconds in the kernel, by the clock, least of five: what `%pulpo check` "
        "finds, and a panel with its pictures, code, form and still picture, made and closed. Of "
        f"a thousand operations the groups are closed.\n\n{table(head, rows)}"
    )


def colouring() -> str:
    from in_a_page import mount
    from playwright.sync_api import sync_playwright

    session = _session(100)
    plan = session.plan()
    names = [node.name for node in plan.operations]
    picture = draw(plan, "both", states=Stage.states(names), closed=())
    stage = Stage(picture)
    told = {"svg": staged(picture.inline), "text": "", "alt": "", **scene(picture.view)}
    moments = [dict.fromkeys(names, Moment("running", f"▶ {n / 10:.1f} s")) for n in range(UPDATES)]
    frames = [{k: list(v) for k, v in moments_of(picture.view, m).items()} for m in moments]
    state = {"picture": told, "moments": {}, "selected": "", "detail": {}, "direction": "down"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        mount(page, "graph.js", {**state, "frames": True, "has_frames": True})
        found: dict[str, Any] = page.evaluate(_COLOUR, [frames, list(map(stage.at, moments))])
        browser.close()
    whole, part = median(found["whole"]), median(found["moments"])
    late = statistics.quantiles(found["gaps"], n=20)[-1]
    row = (f"{part:.1f}", f"{whole:.1f}", ratio(part / whole), f"{late:.1f}")
    head = ("changes only", "whole picture", "changes : whole", "frames' 95th percentile")
    return (
        f"## Colouring\nA hundred operations that all change, {UPDATES} times, ten times a second, "
        "in Chromium: median milliseconds of an update with its layout, by the states alone and by "
        "a new picture, and the time between frames meanwhile (16.7 is the screen's own).\n\n"
        f"{table(head, [row])}"
    )


def _session(count: int) -> Session:
    graph = layered(count)
    session = Session(OperationRegistry(), {})
    for name, function in zip(graph.names(), typed_functions(graph), strict=True):
        session.declare(function, name=name)
    return session


def _chromium() -> str:
    found = os.environ.get("PULPO_CHROMIUM") or shutil.which("chromium")
    if not found:
        sys.exit("no Chromium: name it by PULPO_CHROMIUM.")
    return found


if __name__ == "__main__":
    main()
