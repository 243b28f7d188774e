"""The page of charts and the downloads: only runs of this master, only their files, nothing for other sites, and a
node that calls itself a script stays a name."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_rows import made_row
from made_standing import made_observed, made_standing

from loadtest import runfolder
from loadtest.observed import ObservedNode, fitting
from loadtest.records import Outcome, RequestRecord
from loadtest.swarm.history import COLUMNS, POINTS_MAX, History, Point, Share
from loadtest.swarm.pages import ASSET_NAMES, ASSETS, DOWNLOADS_MAX, Downloads, add_pages
from loadtest.swarm.shelf import HISTORIES_MAX, RUNS_MAX, Shelf

SCRIPT = "<script>alert('node')</script>"
PAYLOAD_MAX = 100_000


def a_run(folder: Path, name: str, *, over: bool = True, **changes: Any) -> Any:
    """A run as far as the pages look at it, with a folder of two parts."""
    runfolder.write_manifest(folder / name, {"schema_version": 1, "run": name, "state": "reported"})
    for part in range(2):
        rows = [made_row(part * 10 + i, error_text=SCRIPT, chunk_ns=(1, 2)) for i in range(10)]
        runfolder.write_part(folder / name / "requests" / f"part-{part}.parquet", rows, RequestRecord)
    (folder / name / "report.html").write_text("<title>report</title>")
    (folder / name / ".part.partial").write_text("on its way")
    standing = made_standing(run=name)
    made = {
        "plan": SimpleNamespace(run=name), "folder": folder / name, "exit_code": 0 if over else None,
        "history": History(), "standing": standing,
    }  # fmt: skip
    return SimpleNamespace(**(made | changes))


def client(shelf: Shelf, base: str = "/base") -> FlaskClient:
    web_ui = SimpleNamespace(app=Flask("page"), template_args={})
    web_ui.app.add_url_rule("/swarm", view_func=lambda: "started", methods=["POST"])
    add_pages(web_ui, shelf, base)  # type: ignore[arg-type]
    assert web_ui.template_args["extended_csv_files"][0]["href"] == "./loadtest/"
    return Whole(web_ui.app)


class Whole(FlaskClient):
    """Reads every answer to its end, which closes the files behind it."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        return super().open(*args, **({"buffered": True} | kwargs))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf()
    made.add(a_run(tmp_path, "r-1"))
    made.add(a_run(tmp_path, "r-2", over=False))
    return made


def test_the_page_is_whole_and_ours(shelf: Shelf) -> None:
    page = client(shelf)
    assert page.get("/base/loadtest").location == "/base/loadtest/"
    answer = page.get("/base/loadtest/")
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    for name in ASSET_NAMES:
        assert page.get(f"/base/loadtest/assets/{name}").status_code == 200
        assert name == "LICENCE.uPlot.txt" or name in answer.text
    assert page.get("/base/loadtest/assets/charts.html").status_code == 404
    assert page.get("/base/loadtest/assets/..%2fpages.py").status_code == 404
    for line in (ASSETS / "LICENCE.uPlot.txt").read_text().splitlines():
        if line.endswith((".js", ".css")) and len(line.split()) == 2:
            digest, name = line.split()
            assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest


def test_a_folder_comes_as_it_is(shelf: Shelf, tmp_path: Path) -> None:
    answer = client(shelf).get("/base/loadtest/runs/r-1/folder.tar.gz")
    assert answer.headers["Content-Disposition"] == "attachment; filename=r-1-folder.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(answer.data)) as archive:
        names = {member.name for member in archive if member.isfile()}
        assert names == {
            "r-1/manifest.json", "r-1/report.html", "r-1/requests/part-0.parquet", "r-1/requests/part-1.parquet"
        }  # fmt: skip
        member = archive.extractfile("r-1/requests/part-0.parquet")
        assert member is not None and member.read() == (tmp_path / "r-1/requests/part-0.parquet").read_bytes()


def test_rows_come_as_csv_and_parquet(shelf: Shelf, tmp_path: Path) -> None:
    page = client(shelf)
    told = list(csv.DictReader(io.StringIO(page.get("/base/loadtest/runs/r-1/rows.csv").text)))
    assert len(told) == 20 and told[0]["error_text"] == SCRIPT and "chunk_ns" not in told[0]
    table = pq.read_table(io.BytesIO(page.get("/base/loadtest/runs/r-1/rows.parquet").data))
    assert table.equals(runfolder.read_table(tmp_path / "r-1", "requests"))


@pytest.mark.parametrize(
    "path",
    [
        "runs/r-3/rows.csv",
        "runs/../r-1/rows.csv",
        "runs/%2e%2e/rows.csv",
        "runs/r-1%2f..%2fr-1/rows.csv",
        "runs/r-1/manifest.json",
        "runs/r-1/..%2f..%2fetc%2fpasswd",
        "runs//rows.csv",
    ],
)
def test_nothing_else_is_served(shelf: Shelf, path: str) -> None:
    assert client(shelf).get(f"/base/loadtest/{path}").status_code == 404


def test_a_run_that_is_on_is_not_downloaded(shelf: Shelf, tmp_path: Path) -> None:
    page = client(shelf)
    refused = page.get("/base/loadtest/runs/r-2/folder.tar.gz")
    assert refused.status_code == 409 and refused.text.startswith("the run is still on")
    report = page.get("/base/loadtest/runs/r-1/report.html")
    assert report.text == "<title>report</title>" and "sandbox" in report.headers["Content-Security-Policy"]
    (tmp_path / "r-2" / "report.html").unlink()
    assert page.get("/base/loadtest/runs/r-2/report.html").status_code == 409


def test_a_folder_that_is_gone_is_one_line(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "r-1" / "manifest.json").unlink()
    answer = client(shelf).get("/base/loadtest/runs/r-1/rows.csv")
    assert answer.status_code == 500 and answer.text.count("\n") == 1 and "manifest.json" in answer.text


def test_downloads_at_once_are_bounded_and_end_with_their_reader(shelf: Shelf) -> None:
    downloads, run = Downloads(), shelf.get("r-1")
    assert run is not None
    open_ones = [downloads.start(run, "folder.tar.gz") for _ in range(DOWNLOADS_MAX)]
    assert downloads.start(run, "folder.tar.gz").status_code == 503
    for answer in open_ones:
        next(iter(answer.response))
        answer.close()  # the browser went away
    last = downloads.start(run, "folder.tar.gz")
    assert last.status_code == 200
    last.close()


def test_asking_for_the_head_of_a_download_takes_no_place(shelf: Shelf) -> None:
    page = client(shelf)
    for _ in range(DOWNLOADS_MAX + 1):
        assert page.head("/base/loadtest/runs/r-1/rows.csv").status_code == 200
    answer = page.get("/base/loadtest/runs/r-1/rows.csv")
    assert answer.status_code == 200 and answer.text.startswith('"run"')


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/base/loadtest/live", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        ("POST", "/swarm", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("POST", "/swarm", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", "/swarm", {}, 200),
        ("GET", "/base/loadtest/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_other_sites_get_nothing(shelf: Shelf, method: str, path: str, headers: dict[str, str], status: int) -> None:
    assert client(shelf).open(path, method=method, headers=headers).status_code == status


def test_what_the_page_is_told(shelf: Shelf) -> None:
    page = client(shelf)
    newest = json.loads(page.get("/base/loadtest/live").data)
    assert newest["run"] == "r-2" and newest["over"] is False
    assert newest["runs"] == [{"run": "r-2", "over": False}, {"run": "r-1", "over": True}]
    assert (newest["offered"], newest["completed"], newest["in_flight"]) == (1005, 960, 40)
    assert newest["nodes"][0][:3] == ["0xdef", 60, 2] and newest["nodes"][0][16] == 2.0
    assert [row[0] for row in newest["pipeline"]][-1] == "completed"
    assert json.loads(page.get("/base/loadtest/live?run=nobody").data)["run"] is None
    for odd in ("since=-1", "since=x", "since=" + "9" * 50, "target=<script>", "session=%00"):
        assert page.get(f"/base/loadtest/live?run=r-1&{odd}").status_code == 200
    assert json.loads(client(Shelf()).get("/base/loadtest/live").data) == {"run": None, "runs": []}


def test_hours_500_nodes_and_hostile_names_stay_below_100_kb(tmp_path: Path) -> None:
    history = History()
    seen = Counter({outcome.value: 1 for outcome in Outcome})
    history._counts = {("all", ""): (0, seen)} | {("t" * 40, str(i)): (0, seen) for i in range(25)}
    for n in range(POINTS_MAX):
        share = Share()
        share.offered = share.in_flight = 1_000 + n
        share.outcomes.update({"ok": 1_000 + n, "truncated": 12, "rate_limited": 123})
        share.distributions = {
            metric: SimpleNamespace(quantiles_ms=[1234.0, 12340.0, 123400.0])  # type: ignore[misc]
            for metric in ("ttft", "tpot", "e2e")
        }
        point = Point(
            n=n + 1,
            from_s=n * 48.0,
            to_s=n * 48.0 + 48,
            waiting=1234,
            oldest_s=123.4,
            shares={("all", ""): share},
        )
        history.points.append(point)
    nodes = [ObservedNode(node=f"{i}{SCRIPT}" * 9, requests=i, ttft_ms_p50=123.4, age_s=1.0) for i in range(500)]
    standing = made_standing(observed=made_observed(nodes=fitting(nodes)))
    shelf = Shelf()
    for i in range(RUNS_MAX):
        shelf.add(a_stub(f"20261125T142957Z-{i:04d}", tmp_path, History(), standing))
    shelf.add(a_stub("last", tmp_path, history, standing))
    answer = client(shelf).get("/base/loadtest/live")
    told = json.loads(answer.data)
    assert len(told["points"]) == POINTS_MAX and len(told["points"][0]) == len(COLUMNS)
    print(f"{POINTS_MAX} points, 500 nodes: {len(answer.data)} bytes")
    assert len(answer.data) < PAYLOAD_MAX
    later = client(shelf).get(f"/base/loadtest/live?since={POINTS_MAX - 1}")
    print(f"one refresh: {len(later.data)} bytes")
    assert len(json.loads(later.data)["points"]) == 1


def a_stub(name: str, folder: Path, history: History, standing: Any) -> Any:
    return SimpleNamespace(
        plan=SimpleNamespace(run=name), folder=folder, exit_code=0, history=history, standing=standing
    )


def test_the_shelf_forgets_old_histories_and_then_old_runs(tmp_path: Path) -> None:
    shelf = Shelf()
    for i in range(RUNS_MAX + 5):
        shelf.add(a_stub(str(i), tmp_path, History(), None))
    assert len(shelf.names()) == RUNS_MAX and shelf.names()[0] == str(RUNS_MAX + 4) and shelf.get("4") is None
    kept = [name for name in shelf.names() if (run := shelf.get(name)) is not None and run.history is not None]
    assert kept == shelf.names()[:HISTORIES_MAX]
