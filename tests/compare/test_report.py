"""The report of made-up runs: figures by hand, a page that is whole and alone, and CSV with the same numbers."""

import csv
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

from lkd.compare.break_even import break_even, largest, sentences
from lkd.compare.grid import Method
from lkd.compare.names import readable
from lkd.compare.report import write
from lkd.compare.results import GridResults
from lkd.compare.summary import in_words, summarize, winners

from .study import VALUES, a_grid, a_result, jobs_of, results_of, usual
from .study import write as put

VOID = {"meta", "br", "wbr", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Fails on tags that do not match; keeps tables, ids, texts and everything that leads elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tables, self.texts, self.links, self.images = [], [], {}, [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [
            value for name, value in attrs.items() if name in ("href", "src", "xlink:href", "srcset")
        ]
        if attrs.get("role") == "img":
            self.images.append(attrs["aria-label"])
        if tag == "table":
            self.table = self.tables[attrs["id"]] = []
        if tag == "tr":
            self.table.append([])
        if tag in ("th", "td"):
            self.table[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            self.table[-1][-1] += data


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def usual_report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = write(results_of(a_grid(folder), usual), folder, "python cli.py compare study.yaml")
    return path, path.read_text(encoding="utf-8")


def test_the_summary_by_hand(tmp_path):
    alone, fedavg, fedmd = summarize(results_of(a_grid(tmp_path), usual))
    assert fedavg["shared/test/acc/mean"] == pytest.approx(0.71)
    assert fedavg["shared/test/acc/mean deviation"] == pytest.approx(0.02 / 2**0.5)
    assert fedavg["clients/test/acc/worst"] == pytest.approx(0.51) and fedavg["seeds"] == 2
    assert (fedavg["bytes"], fedavg["bytes_to_target"], fedavg["reached_target"]) == (130368, 130368, 2)
    assert (fedmd["bytes"], fedmd["bytes_to_target"]) == (32000, 32000)
    assert (alone["bytes"], alone["bytes_to_target"], alone["reached_target"]) == (None, None, None)
    assert fedmd["seconds"] == 1.0 and fedmd["flops"] == 2e9 and fedmd["energy_wh"] is None


def cached(run):
    """As `usual`, but that FedMD has a cache."""
    known = {"hit_rate": 0.5 + 0.2 * run.seed, "bytes_saved": 3e6, "age": 2.0}
    found = usual(run)
    return {**found, "cache": known if run.method == "FedMD" else {}}


def test_what_caches_were_good_for_has_columns_and_a_table_where_there_are_any(tmp_path, usual_report):
    results = results_of(a_grid(tmp_path), cached)
    alone, fedavg, fedmd = summarize(results)
    assert fedmd["cache/hit_rate"] == pytest.approx(0.6) and fedmd["cache/bytes_saved"] == 3e6
    assert alone["cache/hit_rate"] is None and "cache/acc_hits" not in fedavg
    page = Page(write(results, tmp_path, "compare").read_text(encoding="utf-8"))
    assert page.tables["caches-all"] == [
        ["method", "MB saved against sending all anew", "hit rate", "mean age of a hit in rounds"],
        ["FedMD", "3", "0.600", "2.000"],
    ]
    assert rows_of(tmp_path / "runs.csv")[-1]["cache/age"] == "2.0"
    assert "caches-all" not in Page(usual_report[1]).tables


def test_in_words(tmp_path):
    results = results_of(a_grid(tmp_path), usual)
    shared, own, worst, cheapest = in_words(results, summarize(results))
    models = "clients' models on"
    assert shared == (
        f"FedAvg has the best mean accuracy, {models} shared data: 0.710 ± 0.014 (baselines: alone 0.410 ± 0.014)."
    )
    assert own.startswith(f"FedAvg has the best mean accuracy, {models} own data: 0.810 ± 0.014")
    assert worst.startswith(f"FedAvg has the best worst accuracy, {models} own data: 0.510 ± 0.014")
    assert cheapest == "FedMD reaches 0.6 with the fewest bytes, 32 kB (FedAvg 4.1 times as many)."
    results = results_of(a_grid(tmp_path, target=0.65), usual)
    assert in_words(results, summarize(results))[-1] == (
        "FedAvg reaches 0.65 with the fewest bytes, 130 kB; FedMD did not reach it."
    )
    results = results_of(a_grid(tmp_path, target=0.9), usual)
    assert in_words(results, summarize(results))[-1] == "No method reached 0.9."


def test_the_first_measurement_that_reaches_the_target_counts(tmp_path):
    grid = a_grid(tmp_path, target=0.5)
    fedavg = summarize(results_of(grid, usual))[1]
    assert fedavg["bytes_to_target"] == 65184
    partly = results_of(a_grid(tmp_path / "2", target=0.715), usual)
    fedavg = summarize(partly)[1]
    assert (fedavg["bytes_to_target"], fedavg["reached_target"]) == (130368, 1)
    assert "0.13 (1 of 2)" in write(partly, tmp_path, "").read_text()


def test_less_may_be_better(tmp_path):
    grid = a_grid(tmp_path, metric="shared/test/loss/mean", higher_is_better=False, target=0.6)
    losses = {"alone": (0.9, 0.8), "FedAvg": (0.7, 0.5), "FedMD": (0.6, 0.55)}
    results = results_of(grid, lambda run: a_result(losses[run.method], metric="test/loss"))
    rows = summarize(results)
    assert in_words(results, rows)[0].startswith(
        "FedAvg has the best mean loss, clients' models on shared data: 0.500 ± 0.000"
    )
    assert [row["bytes_to_target"] for row in rows] == [None, 2000, 1000]


def test_what_is_not_finite_is_said_and_wins_nothing(tmp_path):
    """FedAvg has .9 with one seed and nothing with the other: no mean of the one that is left."""

    def made(run):
        broken = run.method == "FedAvg" and run.seed == 1
        return (
            a_result((0.5, math.nan), 1000)
            if broken
            else a_result((0.5, 0.9 - (run.method != "FedAvg")), 500)
        )

    results = results_of(a_grid(tmp_path), made)
    rows = {row["method"]: row for row in summarize(results)}
    assert rows["FedAvg"]["shared/test/acc/mean"] is None and rows["FedAvg"]["seeds"] == 2
    said = in_words(results, list(rows.values()))
    assert said[0].startswith("FedMD has the best")
    assert "FedAvg: 1 of 2 seeds ended without a finite shared/test/acc/mean, so it has no mean." in said
    assert (
        "FedAvg: 2 of 4 figures of shared/test/acc (a client and seed) are missing or not finite"
        in "".join(said)
    )
    assert "1 of 2 seeds ended without" in write(results, tmp_path, "").read_text()


@pytest.mark.parametrize("metric", ["test/loss", "test/acc"])
def test_a_comparison_in_which_nothing_is_finite_has_a_report(tmp_path, metric):
    results = results_of(
        a_grid(tmp_path, metric=f"shared/{metric}/mean"), lambda run: a_result((math.nan,), metric=metric)
    )
    assert (
        f"2 of 2 seeds ended without a finite shared/{metric}/mean"
        in write(results, tmp_path, "").read_text()
    )


def test_what_a_method_does_not_have_is_no_hole(tmp_path):
    """A method without a server's model has no test/acc."""
    results = results_of(
        a_grid(tmp_path, metric="test/acc", target=None),
        lambda run: usual(run) | ({"final": {"test/acc": 0.5}} if run.method == "FedAvg" else {}),
    )
    assert "FedAvg has the best accuracy, server's model on shared data: 0.500 ± 0.000." in in_words(
        results, summarize(results)
    )


def test_a_target_reached_without_any_bytes(tmp_path):
    """A method that exchanges nothing and is no baseline: the others are so many times nothing."""
    results = results_of(
        a_grid(tmp_path, target=0.2), lambda run: a_result((0.3,), 0 if run.method == "FedMD" else 9)
    )
    assert "FedMD reaches 0.2 with the fewest bytes, 0 B." in in_words(results, summarize(results))


def test_of_many_clients_the_report_says_how_many_were_measured(tmp_path):
    results = results_of(a_grid(tmp_path), lambda run: usual(run) | {"population": 1500})
    assert "are over 100 of the 1,500 clients, drawn by chance" in write(results, tmp_path, "").read_text()


def test_break_even_by_hand(tmp_path):
    results = results_of(a_grid(tmp_path), usual)
    fedavg, fedmd = break_even(results)  # a baseline exchanges nothing that counts
    assert fedmd["values_up"] == fedmd["values_down"] == 10 and fedmd["samples"] == 100
    assert fedmd["break_even"] == 407  # 407 * 10 < 4074 < 408 * 10
    assert fedavg["bytes_a_turn"] == 130368 / 8 and fedavg["of_weights"] == 130368 / 8 / (2 * 4 * 4074)
    assert fedavg["break_even"] is fedavg["values_up"] is None
    weights, predictions = sentences([fedavg, fedmd])
    assert predictions == (
        "FedMD: with 4,074 parameters and 10 values a public sample each way, distillation is cheaper than "
        "exchanging weights with up to 407 public samples a round; here a client told of 100 at a time, so it was cheaper "
        "(0.12 times the bytes of its weights, up and down)."
    )
    assert weights.startswith("FedAvg: no predictions of public samples travel") and "(0.5 times" in weights


@pytest.mark.parametrize(("weights", "values"), [(4074, 10), (4070, 10), (12.5, 5), (3, 10), (1e6, 7)])
def test_break_even_is_the_largest_number_that_is_cheaper(weights, values):
    found = largest(weights, values)
    assert (found == 0 or found * values < weights) and (found + 1) * values >= weights


def test_directions_that_differ_are_averaged(tmp_path):
    counts = {"told": 1000.0, "told_samples": 100.0, "told_times": 1.0, "sent": 3000.0, "sent_samples": 100.0}
    results = results_of(a_grid(tmp_path), lambda run: a_result([0.5], exchanged=counts))
    rows = break_even(results)
    assert rows[0]["break_even"] == 203  # 20 values each way: 203 * 20 < 4074 < 204 * 20
    assert "and 10 up and 30 down values a public sample" in sentences(rows)[0]


def test_a_teacher_that_tells_and_is_told_nothing_costs_one_direction(tmp_path):
    """Weights travel both ways, 2 x 4074 values, its lessons one way, 30 a sample."""
    counts = {"sent": 3000.0, "sent_samples": 100.0, "sent_times": 1.0}
    results = results_of(a_grid(tmp_path), lambda run: a_result([0.5], exchanged=counts))
    (row, _), path = break_even(results), write(results, tmp_path, "")
    assert row["break_even"] == 271 and 271 * 30 < 2 * 4074 < 272 * 30
    assert "and 30 down values a public sample" in sentences([row])[0]
    assert "was told of 100 at a time, so it was cheaper" in sentences([row])[0] and path.is_file()


def test_the_page_is_whole_and_stands_alone(usual_report):
    _, text = usual_report
    page = Page(text)
    assert len(page.ids) == len(set(page.ids)) > 10
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links) and page.links
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|file:", text)
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert {i for i in re.findall(r"url\(#([^)]*)\)", text)} <= set(page.ids)
    assert len(page.images) == text.count("<svg") == 5 and all(len(alt) > 20 for alt in page.images)
    assert "prefers-color-scheme: dark" in text and "currentColor" in text and "#010203" not in text
    assert '<html lang="en">' in text and "<h1>A study</h1>" in text


def test_the_pages_tables_have_the_numbers_of_the_csv(usual_report):
    path, text = usual_report
    tables = Page(text).tables
    (head, *body), (costs, *paid) = tables["results-all"], tables["costs-all"]
    for row, shown, spent in zip(rows_of(path.with_name("results.csv")), body, paid, strict=True):
        cells = dict(zip(head, shown, strict=True)) | dict(zip(costs, spent, strict=True))
        assert (cells["method"], cells["seeds"]) == (row["method"], row["seeds"])
        for name in ("shared/test/acc/mean", "clients/test/acc/mean", "clients/test/acc/worst"):
            assert f'title="{name}">' in text  # the name as it is logged, where the pointer rests on it
            assert cells[readable(name)] == f"{float(row[name]):.3f} ± {float(row[f'{name} deviation']):.3f}"
        for name, column in (("MB", "bytes"), ("MB to 0.6", "bytes_to_target")):
            assert (
                cells[name] == "-"
                if not row[column]
                else float(cells[name]) == pytest.approx(float(row[column]) / 1e6, rel=0.005)
            )
        assert cells["GFLOPs (2 per MAC)"] == "2" and "Wh, estimated (codecarbon)" not in cells
        assert cells["seconds"] == f"{float(row['seconds']):.1f}" and cells["weights"] == "4,074"
    means = {}
    for row in rows_of(path.with_name("clients.csv")):
        means.setdefault((row["method"], row["name"]), []).append(row)
    for kind, column in (("shared", "shared/test/acc"), ("clients", "clients/test/acc")):
        head, *body = tables[f"{kind}-all"]
        for name, *shown in body:
            for method, cell in zip(head[1:], shown, strict=True):
                values = [float(row[column]) for row in means[method, name]]
                assert cell == f"{sum(values) / 2:.3f}"
    parts = tables["parts-all-FedAvg"]
    assert parts == [["client", "phone"], ["C1", "0.500"], ["C2", "0.750"]]
    assert tables["break-even"][2][:6] == ["FedMD", "4,074", "10", "10", "100", "407"]


def test_the_best_of_each_column_is_bold(tmp_path):
    """FedAvg reaches more, FedMD costs less, the baseline competes in nothing; where all are as good nobody stands out."""
    text = write(results_of(a_grid(tmp_path), usual), tmp_path, "").read_text()
    bold = {}
    for name in ("results-all", "costs-all"):
        table = text.partition(f'id="{name}"')[2].partition("</table>")[0]
        for row in table.split("<tr>")[2:]:
            method = re.search(r'scope="row">([^<]*)', row)[1]
            bold[name, method] = re.findall(r"<td class=best>([^<]*)", row)
    assert bold["results-all", "alone"] == bold["costs-all", "alone"] == []
    assert bold["results-all", "FedAvg"] == ["0.710 ± 0.014", "0.810 ± 0.014", "0.510 ± 0.014"]
    assert bold["costs-all", "FedMD"] == ["0.032", "0.032"] and bold["costs-all", "FedAvg"] == []


def test_figures_that_differ_by_rounding_are_a_tie(tmp_path):
    """231 and 222 of 540, or 230 and 223: the mean of float32 figures differs in the eighth digit."""
    results = results_of(a_grid(tmp_path), usual)
    rows = summarize(results)
    fedavg, fedmd = (next(row for row in rows if row["method"] == m) for m in ("FedAvg", "FedMD"))
    name = "shared/test/acc/mean"
    fedavg[name], fedmd[name] = 0.8388888835906982, 0.8388889133930206
    assert set(winners(results, rows, name, True)) == {"FedAvg", "FedMD"}
    fedmd[name] += 1e-5
    assert winners(results, rows, name, True) == ["FedMD"]


def test_every_picture_is_a_file_too(usual_report):
    folder = usual_report[0].with_name("pictures")
    names = ("over-bytes", "over-flops", "over-seconds", "spread-clients", "spread-shared")
    assert sorted(p.name for p in folder.iterdir()) == [f"{n}.{e}" for n in names for e in ("pdf", "png")]
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert image.width > 900 and image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert (folder / "over-bytes.pdf").read_bytes()[:5] == b"%PDF-"


def test_runs_and_curves_as_csv(usual_report):
    path, _ = usual_report
    runs, curves = (rows_of(path.with_name(f"{name}.csv")) for name in ("runs", "curves"))
    assert [(r["method"], r["seed"]) for r in runs][:4] == [(m, "0") for m in VALUES] + [("alone", "1")]
    assert len(curves) == 12 and [row["round"] for row in curves[:2]] == ["1", "2"]
    fedavg = [row for row in curves if row["method"] == "FedAvg" and row["seed"] == "1"]
    assert [float(row["shared/test/acc/mean"]) for row in fedavg] == pytest.approx([0.52, 0.72])
    assert [float(row["bytes"]) for row in fedavg] == [65184, 130368]
    assert {row["bytes"] for row in curves if row["method"] == "alone"} == {""}


def test_the_test_after_the_fit_has_the_last_word(tmp_path):
    results = results_of(
        a_grid(tmp_path, metric="test/acc"), lambda run: a_result([0.5], final={"test/acc": 0.9})
    )
    assert {row["test/acc"] for row in results.runs} == {0.9}


def test_one_model_without_a_federation_serves_everybody(tmp_path):
    plain = {"federation": False, "clients": [], "curve": [], "final": {"test/acc": 0.8}, "exchanged": {}}
    results = results_of(
        a_grid(tmp_path), lambda run: a_result([0.5], **plain) if run.method == "alone" else usual(run)
    )
    assert summarize(results)[0]["shared/test/acc/mean"] == 0.8
    text = write(results, tmp_path, "").read_text()
    assert "0.800 ± 0.000" in text and len(Page(text).tables["shared-all"][0]) == 3


def test_a_method_may_be_measured_by_another_name(tmp_path):
    def run(run):
        result = a_result([0.5], metric="test/acc" if run.method == "FedAvg" else "test/acc_head4")
        if run.method == "FedMD":
            result["curve"][-1]["metrics"]["shared/test/acc/mean"] = 0.1
        return result

    methods = {"FedAvg": Method(), "FedMD": Method(measure="test/acc_head4")}
    results = results_of(a_grid(tmp_path, methods=methods, target=0.5), run)
    fedavg, fedmd = summarize(results)
    assert fedmd["shared/test/acc/mean"] == fedavg["shared/test/acc/mean"] == 0.5
    assert (
        fedmd["clients/test/acc/worst"] == fedavg["clients/test/acc/worst"] and fedmd["reached_target"] == 2
    )
    assert {row["shared/test/acc"] for row in results.clients if row["client"] == 1} == {0.4}
    assert "Of FedMD, test/acc_head4 stands for test/acc." in write(results, tmp_path, "").read_text()


def test_what_is_missing_failed_or_changed_is_said_and_left_out(tmp_path):
    grid = a_grid(tmp_path, seeds=(0,))
    jobs = jobs_of(grid)
    put(jobs[0], usual(jobs[0].run))
    put(jobs[1], {}, "failed", ["line <1>", "it broke"])
    put(jobs[2], usual(jobs[2].run))
    jobs[2].config["seed_everything"] = 1
    text = write(GridResults(grid, jobs), tmp_path, "").read_text()
    assert "1 of 3 runs failed: FedAvg, seed 0." in text and "line &lt;1&gt;\nit broke" in text
    assert "1 of 3 runs were run with other options" in text
    assert [row[0] for row in Page(text).tables["results-all"]] == ["method", "alone"]
    shutil.rmtree(jobs[2].folder)
    assert (
        "1 of 3 runs have not been run yet: FedMD, seed 0."
        in write(GridResults(grid, jobs), tmp_path, "").read_text()
    )


def test_nothing_done_is_a_report_too(tmp_path):
    text = write(results_of(a_grid(tmp_path), lambda run: None), tmp_path, "").read_text()
    assert "6 of 6 runs have not been run yet" in text and not Page(text).tables


def test_settings_have_tables_and_a_picture_each(tmp_path):
    grid = a_grid(tmp_path, settings={"missing 0.2": ("--a=1",), "missing .5": ("--a=2",)}, title="<b>&</b>")
    text = write(results_of(grid, usual), tmp_path, "").read_text()
    page = Page(text)
    assert {"results-missing-0-2", "results-missing-5", "shared-missing-0-2"} <= page.tables.keys()
    assert len(page.images) == 6 and "<h1>&lt;b&gt;&amp;&lt;/b&gt;</h1>" in text
    assert "missing 0.2: --a=1" in "".join(page.texts)
    assert len(page.ids) == len(set(page.ids))


def test_energy_is_a_column_of_its_own_that_says_what_it_is(tmp_path):
    results = results_of(a_grid(tmp_path), lambda run: {**usual(run), "energy_wh": 0.125})
    page = Page(write(results, tmp_path, "").read_text())
    head, first = page.tables["costs-all"][:2]
    cells = dict(zip(head, first, strict=True))
    assert cells["Wh, estimated (codecarbon)"] == "0.125" and cells["GFLOPs (2 per MAC)"] == "2"
    assert len(page.images) == 6


def test_what_a_client_owns_stands_beside_its_name(tmp_path):
    def run(run):
        result = usual(run)
        for client, owned in zip(result["clients"], (["phone"], ["phone", "watch"]), strict=True):
            client["modalities"] = owned
        return result

    tables = Page(write(results_of(a_grid(tmp_path), run), tmp_path, "").read_text()).tables
    assert [row[0] for row in tables["shared-all"]] == ["client", "C1 (phone)", "C2 (phone + watch)"]
    assert {row["modalities"] for row in rows_of(tmp_path / "clients.csv")} == {"phone", "phone + watch"}


def test_no_client_was_measured(tmp_path):
    results = results_of(a_grid(tmp_path), lambda run: {**usual(run), "clients": []})
    assert "No client was measured." in write(results, tmp_path, "").read_text()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a headless browser: chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(usual_report, tmp_path, scheme):
    path, _ = usual_report
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        *dark,
        "--window-size=1200,3000",
    ]
    subprocess.run(
        [*command, f"--user-data-dir={tmp_path}", f"--screenshot={tmp_path / 'page.png'}", path.as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(tmp_path / "page.png") as image:
        colors = {color[:3] for _, color in image.convert("RGB").getcolors(1 << 24)}
        corner = image.convert("RGB").getpixel((5, 5))
    assert (sum(corner) < 150) is (scheme == "dark")
    assert {(0xE0, 0x8A, 0x00), (0x00, 0x9E, 0x73)} <= colors  # FedAvg's line, and FedMD's
