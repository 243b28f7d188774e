"""Write the dashboards of *_boards.py as Grafana's JSON, by Grafana's own types, or check that they are written.

    python dashboards/build.py           write dashboards/*.json
    python dashboards/build.py --check   exit code 1 when a file is not what would be written

Each is read back through the same types before it is written, so what they cannot express does not get lost in silence.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boards import BOARDS
from description import Board, Panel
from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import BigValueTextMode, LegendDisplayMode, TooltipDisplayMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).resolve().parent
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = {"stat": 4, "table": 10, "timeseries": 8, "heatmap": 8}
KINDS = {"stat": stat.Panel, "table": table.Panel, "timeseries": timeseries.Panel, "heatmap": heatmap.Panel}


def panel_of(panel: Panel, number: int) -> Any:
    built = KINDS[panel.kind]()
    title = f"{panel.title} (approximate)" if panel.approximate else panel.title
    built = built.id(number).title(title).description(panel.worry).unit(panel.unit).datasource(SOURCE)
    built = built.height(HEIGHT[panel.kind]).span(panel.width)
    for n, query in enumerate(panel.queries):
        target = prometheus.Dataquery().ref_id(chr(ord("A") + n)).expr(query.expr).legend_format(query.legend)
        if panel.kind == "table":
            target = target.instant().format(PromQueryFormat.TABLE)
        elif panel.kind == "heatmap":
            target = target.range().format(PromQueryFormat.HEATMAP)
        elif panel.kind == "stat":
            target = target.instant()
        else:
            target = target.range()
        built = built.with_target(target)
    if panel.kind == "table":
        for transformation in _one_table(panel):
            built = built.with_transformation(transformation)
    if panel.kind == "stat" and any("{{" in query.legend for query in panel.queries):
        built = built.text_mode(BigValueTextMode.VALUE_AND_NAME)
    if panel.kind == "timeseries":
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
        built = built.legend(legend).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if steps := list(_steps(panel)):
        built = built.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
    return built


def _one_table(panel: Panel) -> Iterator[model.DataTransformerConfig]:
    """One row for each label, one column for each query, named by its legend."""
    yield model.DataTransformerConfig(id_val="merge", options={})
    several = len(panel.queries) > 1
    columns = {f"Value #{chr(ord('A') + n)}" if several else "Value": q.legend for n, q in enumerate(panel.queries)}
    shown = {name: legend for name, legend in columns.items() if "{{" not in legend}
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job", "run"), True)
    yield model.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden, "renameByName": shown})


def _steps(panel: Panel) -> Iterator[model.Threshold]:
    if panel.red_above is not None:
        yield model.Threshold(value=None, color="green")
        yield model.Threshold(value=panel.red_above, color="red")
    elif panel.red_below is not None:
        yield model.Threshold(value=None, color="red")
        yield model.Threshold(value=panel.red_below, color="green")


def _choice(name: str, query: str, *, all_of_them: bool) -> dashboard.QueryVariable:
    choice = dashboard.QueryVariable(name).label(name.capitalize()).datasource(SOURCE).query(query)
    choice = choice.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_DESC)
    return choice.multi(True).include_all(True).all_value(".*") if all_of_them else choice


def built(board: Board) -> model.Dashboard:
    page = dashboard.Dashboard(board.title).uid(board.uid).description(board.about).tags(["loadtest"])
    page = page.time("now-1h" if board.of_run else "now-30d", "now").refresh("10s" if board.of_run else "5m")
    page = page.timezone("utc").tooltip(model.DashboardCursorSync.CROSSHAIR).readonly()
    page = page.with_variable(dashboard.DatasourceVariable("datasource").label("Source").type("prometheus"))
    if board.of_run:
        page = page.with_variable(_choice("run", "label_values(loadtest_run_info, run)", all_of_them=False))
        of_run = 'label_values(loadtest_target_info{run="$run"}, target)'
        page = page.with_variable(_choice("target", of_run, all_of_them=True))
        phases = "label_values(gen_ai_client_operation_duration_seconds_count, phase)"
        page = page.with_variable(_choice("phase", phases, all_of_them=True))
    else:
        page = page.with_variable(_choice("profile", "label_values(loadtest_nightly_runs, profile)", all_of_them=True))
    link = dashboard.DashboardLink("Load test").type(model.DashboardLinkType.DASHBOARDS).tags(["loadtest"])
    page = page.link(link.keep_time(True).include_vars(True))
    for number, panel in enumerate(board.panels, start=1):
        page = page.with_panel(panel_of(panel, number))
    return page.build()


def text(board: Board) -> str:
    """The file's content; ValueError when Grafana's types do not give back what they wrote."""
    written = JSONEncoder(sort_keys=True, indent=1).encode(built(board))
    again = JSONEncoder(sort_keys=True, indent=1).encode(model.Dashboard.from_json(json.loads(written)))
    if again != written:
        raise ValueError(f"{board.uid}: Grafana's types read it back differently")
    return written + "\n"


def main(argv: list[str]) -> int:
    if argv not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = []
    for board in BOARDS:
        path, content = FOLDER / f"{board.uid}.json", text(board)
        if argv and (not path.exists() or path.read_text(encoding="utf-8") != content):
            stale.append(path.name)
        elif not argv:
            path.write_text(content, encoding="utf-8")
    if stale:
        print(f"not what the boards say: {', '.join(stale)}; run python dashboards/build.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
