"""The page in a real browser."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from eventstorm_sinks.sink import Sink
from web_serving import Publisher, served, until, url_of

pytestmark = pytest.mark.browser
# As long as a busy machine may take; the default is 5 seconds.
expect.set_options(timeout=60_000)

HOSTILE = "<img src=x onerror='window.hurt=1'><script>window.hurt=1</script>"


@contextlib.contextmanager
def looking_at(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open the page; nothing may go wrong in it, and nothing may be asked of anybody else."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: None if request.url.startswith(url) else faults.append(request.url))
    try:
        page.goto(url)
        expect(page.locator("#connection")).to_have_text("live")
        yield page
        assert faults == []
    finally:
        context.close()


def metrics(source: Publisher, utilization: float, ts_ms: int | None = None) -> None:
    """Send what a host says in one second."""
    cpu = {"utilization": utilization, "logical": [0.1, 0.9], "load": {"1m": 1.5}}
    source.send("cpu.usage", {"system": {"cpu": cpu}}, ts_ms=ts_ms)
    source.send("memory.usage", {"system": {"memory": {"utilization": 0.4}}}, ts_ms=ts_ms)
    filesystem = {"mountpoint": "/data", "usage": 95e9, "limit": 100e9, "utilization": 0.95}
    source.send("disk.usage", {"system": {"filesystem": filesystem}}, ts_ms=ts_ms)
    process = {"pid": 42, "executable": {"name": "worker"}, "owner": "ada", "cpu": {"utilization": 1.5}, "rank": 1}
    source.send("process.usage", {"process": process}, ts_ms=ts_ms)


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """One sink for the tests that do not stop it."""
    with served(tmp_path_factory.mktemp("page")) as sink:
        yield sink


@pytest.fixture
def source(sink: Sink) -> Iterator[Publisher]:
    """A source of the sink."""
    with Publisher(sink.ingress or "") as source:
        yield source


def test_without_events_the_page_tells_what_to_do(tmp_path: Path, browser: Browser) -> None:
    with served(tmp_path) as sink, looking_at(browser, url_of(sink)) as page:
        expect(page.locator("#no-events")).to_contain_text("eventstorm emit shop.order")
        expect(page.locator("#panel-cpu .empty")).to_contain_text("eventstorm sysmon")
        expect(page.locator("#loss-pill")).to_have_text("no losses")


def test_metrics_move(sink: Sink, source: Publisher, browser: Browser) -> None:
    with looking_at(browser, url_of(sink)) as page:
        metrics(source, 0.25)
        expect(page.locator("#panel-cpu .now")).to_have_text("25 %")
        expect(page.locator("#panel-cpu canvas")).to_be_visible()
        expect(page.locator("#panel-cpu .core")).to_have_count(2)
        expect(page.locator("#filesystems")).to_contain_text("95 GB of 100 GB")
        expect(page.locator("#processes")).to_contain_text("150 %")
        before = page.locator("#panel-cpu canvas").evaluate("canvas => canvas.toDataURL()")
        metrics(source, 0.75)
        expect(page.locator("#panel-cpu .now")).not_to_have_text("25 %")
        assert page.locator("#panel-cpu canvas").evaluate("canvas => canvas.toDataURL()") != before


def test_what_most_hosts_do_not_have_is_drawn_where_it_is(sink: Sink, source: Publisher, browser: Browser) -> None:
    panels = {"container": "50 %", "service-cpu": "1.50", "service-memory": "3 MB", "temperature": "45.00"}
    with looking_at(browser, url_of(sink)) as page:
        expect(page.locator("#panel-cpu")).to_be_visible()
        for panel in panels:
            expect(page.locator(f"#panel-{panel}")).to_be_hidden()
        service = {"cpu": {"utilization": 1.5}, "memory": {"usage": 3_000_000}}
        source.send("container.usage", {"container": {"cpu": {"utilization": 0.5}}})
        source.send("service.usage", {"service": {"name": "shop.service"}, "process": service})
        source.send("sensor.usage", {"hw": {"name": "coretemp Core 0", "temperature": 45.0}})
        for panel, shown in panels.items():
            expect(page.locator(f"#panel-{panel} .legend")).to_contain_text(shown)
            expect(page.locator(f"#panel-{panel} canvas")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]  # type: ignore[index]


def test_an_emitted_event_shows_up_and_opens(sink: Sink, source: Publisher, browser: Browser) -> None:
    with looking_at(browser, url_of(sink)) as page:
        source.send("shop.order", {"total": 42.5, "exact": 2**60 + 1, "none": {}, "long": "y" * 6000})
        row = page.locator("#events li", has_text="shop.order").first
        expect(row).to_contain_text("42.5")
        row.click()
        expect(page.locator("#document-title")).to_have_text("shop.order")
        expect(page.locator("#document-source")).to_contain_text("test@atlas, process 7")
        shown = page.locator("#document-text")
        expect(shown).to_contain_text(re.compile(rf'"exact": {2**60 + 1},.*"none": {{}}', re.DOTALL))
        # More than a frame carries: fetched from the store.
        expect(shown).to_contain_text("y" * 6000)
        page.keyboard.press("Escape")
        expect(page.locator("#document")).to_be_hidden()


def test_hostile_content_stays_text(sink: Sink, browser: Browser) -> None:
    with (
        Publisher(sink.ingress or "", host=HOSTILE, service=HOSTILE) as source,
        looking_at(browser, url_of(sink)) as page,
    ):
        source.send("evil.one", {HOSTILE: HOSTILE})
        source.send_encoded("evil.one", b"", 0, skipped=3)
        source.send("disk.usage", {"system": {"filesystem": {"mountpoint": HOSTILE, "utilization": 0.5}}})
        source.send("network.usage", {"system": {"network": {"interface": {"name": HOSTILE}, "io": {"receive": 5}}}})
        source.send("process.usage", {"process": {"pid": HOSTILE, "executable": {"name": HOSTILE}, "rank": 1}})
        for place in ("#events", "#filesystems", "#panel-network", "#processes", "#losses"):
            expect(page.locator(place)).to_contain_text("<script>")
        page.locator("#events li", has_text="evil.one").first.click()
        expect(page.locator("#document-text")).to_contain_text("<script>")
        assert page.locator("main img, main script, dialog img, dialog script").count() == 0
        assert page.evaluate("window.hurt") is None


def test_losses_are_shown_as_losses(sink: Sink, source: Publisher, browser: Browser) -> None:
    source.send("lossy.one", {})
    source.send_encoded("lossy.one", b"", 0, skipped=1234)
    with looking_at(browser, url_of(sink)) as page:
        row = page.locator("#losses tr", has_text="lossy.one")
        expect(row).to_contain_text("lost on the way")
        expect(row).to_contain_text("1,234")
        expect(page.locator("#loss-pill")).to_have_attribute("data-state", "bad")


def test_the_filter_finds_stored_and_new_events(sink: Sink, source: Publisher, browser: Browser) -> None:
    source.send("find.gold", {"place": "stored"})
    source.send("find.iron", {"place": "stored"})
    until(lambda: sink.writers[0].stats().pending == 0)
    with looking_at(browser, url_of(sink)) as page:
        page.get_by_placeholder("topic, e.g. shop.").fill("find.g")
        rows = page.locator("#events li")
        expect(rows).to_have_count(1)
        source.send("find.gold", {"place": "new"})
        source.send("find.iron", {"place": "new"})
        expect(rows).to_have_count(2)
        page.get_by_placeholder("contains text").fill("NEW")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text('"new"')
        page.get_by_placeholder("contains text").fill("nowhere")
        expect(page.locator("#no-events")).to_have_text("no event matches this filter")


def test_pause_holds_the_stream_and_resume_catches_up(sink: Sink, source: Publisher, browser: Browser) -> None:
    with looking_at(browser, url_of(sink)) as page:
        page.get_by_placeholder("topic, e.g. shop.").fill("pause.")
        page.get_by_role("button", name="Pause").click()
        source.send("pause.one", {"n": 1}, {"n": 2})
        expect(page.locator("#pause")).to_have_text("Resume (2 new)")
        expect(page.locator("#events li")).to_have_count(0)
        page.locator("#pause").click()
        expect(page.locator("#events li")).to_have_count(2)


def test_what_is_not_stored_yet_stays_when_the_filter_changes(sink: Sink, source: Publisher, browser: Browser) -> None:
    with looking_at(browser, url_of(sink)) as page:
        page.route("**/api/events?*", lambda route: route.fulfill(json={"events": []}))
        source.send("early.one", {"n": 1})
        expect(page.locator("#events li", has_text="early.one")).to_be_visible()
        with page.expect_response("**/api/events?*prefix=early.*"):
            page.get_by_placeholder("topic, e.g. shop.").fill("early.")
        source.send("early.two", {"n": 2})
        expect(page.locator("#events li", has_text="early.two")).to_be_visible()
        expect(page.locator("#events li")).to_have_count(2)


def test_after_a_restart_the_page_reconnects_and_history_is_there(tmp_path: Path, browser: Browser) -> None:
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source:
        address = url_of(sink).removeprefix("http://")
        metrics(source, 0.25, int(time.time() * 1000) - 60_000)
        source.send("shop.order", {"total": 42.5})
        until(lambda: sink.writers[0].stats().stored >= 5)
        with looking_at(browser, url_of(sink)) as page:
            expect(page.locator("#panel-cpu .empty")).to_be_hidden()
            sink.stop()
            expect(page.locator("#connection")).to_have_text("reconnecting")
            with served(tmp_path, http=address) as again:
                expect(page.locator("#connection")).to_have_text("live")
                expect(page.locator("#panel-cpu .empty")).to_be_hidden()
                expect(page.locator("#events li", has_text="shop.order")).to_be_visible()
                page.reload()
                expect(page.locator("#panel-cpu .empty")).to_be_hidden()
                page.get_by_role("button", name="24 h").click()
                expect(page.locator("#panel-cpu .empty")).to_be_hidden()
                assert url_of(again).endswith(address)


# A feed that answers twice, as after a connection and after the filter that follows it.
_TWICE = """async () => {
  const { Stream } = await import("/static/stream.js");
  const stream = new Stream(() => {});
  stream.setPaused(true);
  const events = [{ id: "a", ts_ms: 1, topic: "t", text: "{}", service: "s", host: "h" }];
  stream.take(stream.wanted, events);
  stream.take(stream.wanted, events);
  return [stream.shown.length, stream.held.length];
}"""


def test_what_is_shown_is_not_promised_as_new(sink: Sink, browser: Browser) -> None:
    with looking_at(browser, url_of(sink)) as page:
        assert page.evaluate(_TWICE) == [1, 0]


# What the page itself does with frames and history, given the seconds that were sent: {second: events}.
_JOINED = """async () => {
  const { Series } = await import("/static/series.js");
  const socket = new WebSocket(`ws://${location.host}/feed`);
  const said = [];
  const enough = new Promise((resolve) => {
    socket.onmessage = async (message) => { if (said.push(JSON.parse(await message.data.text())) >= 4) resolve(); };
  });
  await enough;
  const [hello, ...frames] = said;
  socket.close();
  const now = frames.at(-1).now;
  const end = Math.floor(now);
  return await Promise.all(hello.ranges.slice(0, 2).map(async (range) => {
    const step = range.step_s;
    const series = new Series(hello.panels);
    const history = await (await fetch(`/api/history?span=${range.span_s}&until=${frames[0].since_s}`)).json();
    // Everything twice, and live before history and after: nothing may count twice.
    for (let again = 0; again < 2; again += 1) {
      for (const frame of frames) series.setLive(frame.state.bins);
      series.setHistory(history);
    }
    const { times, lines } = series.view("events", range, now);
    const line = lines.find((each) => each.by === "exact.one");
    const found = {};
    times.forEach((at, index) => {
      if (line.values[index]) found[at] = Math.round(line.values[index] * Math.min(step, end - at));
    });
    return { step, found, first: times[0], end };
  }));
}"""


def test_the_page_joins_history_and_live_to_the_event(tmp_path: Path, browser: Browser) -> None:
    sent: dict[int, int] = {}

    def send(source: Publisher, back_s: int, n: int) -> None:
        second = int(time.time()) - back_s
        source.send("exact.one", *[{}] * n, ts_ms=second * 1000 + 500)
        sent[second] = sent.get(second, 0) + n

    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source:
        for back_s in range(100, 0, -1):
            send(source, back_s, back_s % 4 + 1)
        until(lambda: sink.writers[0].stats().pending == 0 and sink.writers[0].stats().stored >= len(sent))
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source:
        for back_s in (4, 2, 1, 0):
            send(source, back_s, 3)
        until(lambda: sink.writers[0].stats().pending == 0 and sink.writers[0].stats().stored >= 12)
        with looking_at(browser, url_of(sink)) as page:
            joined = page.evaluate(_JOINED)

    assert [each["step"] for each in joined] == [1, 5]
    for each in joined:
        expected: dict[int, int] = {}
        for second, n in sent.items():
            if each["first"] <= second < each["end"]:
                step_s = second // each["step"] * each["step"]
                expected[step_s] = expected.get(step_s, 0) + n
        assert {int(at): n for at, n in each["found"].items()} == expected


def test_nothing_is_wider_than_the_window(sink: Sink, source: Publisher, browser: Browser) -> None:
    metrics(source, 0.5)
    source.send("a" * 200, {"x" * 500: json.dumps(["y" * 500])})
    with looking_at(browser, url_of(sink), color_scheme="dark") as page:
        expect(page.locator("#events li").first).to_be_visible()
        for width in (1280, 900, 390):
            page.set_viewport_size({"width": width, "height": 844})
            # The graphs follow when they are told of it.
            page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width)
