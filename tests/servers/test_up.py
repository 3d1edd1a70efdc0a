"""``eventstorm up`` with its events on a server: stored, drawn, and there again the next time."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.test_up import running, wait_until


@pytest.mark.parametrize("server", ["database_url", "ferretdb_url", "shared_cassandra"])
def test_events_are_stored_and_drawn_and_there_again(
    server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(server)
    url = found if isinstance(found, str) else f"{found.url}/up"
    # FerretDB removes nothing by age.
    options = ("--store", url, *(("--keep", "") if server == "ferretdb_url" else ()))
    with running(tmp_path, *options) as up:
        up.emit(100)
        up.wait_for("shop.order", 100)
        up.wait_for("cpu.usage")
        assert len(up.get("/api/events", topic="shop.order", limit="100")["events"]) == 100
        [line] = up.get("/api/series", topic="shop.order", step="3600")["series"]
        assert sum(count for _, count in line["points"]) == 100
        assert up.stop() == 0
        assert "WARNING" not in up.told()
        assert f"in {url}" in up.told()
    with running(tmp_path, *options, "--no-sysmon") as up:
        up.emit()
        up.wait_for("shop.order", 101)
        assert up.stop() == 0


def test_who_asks_a_server_to_remove_by_age_that_cannot_is_told_what_to_do(ferretdb_url: str, tmp_path: Path) -> None:
    with running(tmp_path, "--store", ferretdb_url) as up:
        wait_until(lambda: "this server removes no events by age" in up.told(), up.told)
        assert "keep all of them: --keep ''" in up.told()
        assert "keep_size" not in up.told()
        assert up.stop() == 0
