"""The report in a real browser: it opens from disk without a network, and what it shows is what the files hold."""

from __future__ import annotations

import json
import re
import shutil
import time
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

from tests.train.synthetic import HIDDEN, variances, write_run
from train.report import write_report
from train.spectrum_summary import summarize

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="Chromium and its driver are not installed: apt-get install chromium chromium-driver",
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Selenium's connection pool
]

STEPS = range(0, 101, 20)
ANALYSED = (0, 40, 100)
FIGURES = ("training", "heat", "sorted", "density", "eigen", "phase")


class Page:
    """The report of two runs in headless Chromium."""

    def __init__(self, driver: Any, folder):
        self.driver, self.folder, self.downloads = driver, folder, folder / "downloads"
        self.runs = {name: folder / name for name in ("plain", "so")}
        self.url = (folder / "report.html").as_uri()

    def open(self, fragment: str = "", width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme_feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_feature)
        self.driver.get("about:blank")
        self.driver.get(self.url + fragment)
        self.wait("return document.body.dataset.ready === 'figures'")

    def wait(self, script: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 30, 0.02).until(lambda driver: driver.execute_script(script))

    def js(self, expression: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {expression}", *arguments)

    def element(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def shows(self, step: int) -> None:
        self.wait(f"return document.body.dataset.step === '{step}'")

    def traces(self, figure: str) -> list[dict[str, Any]]:
        """What Plotly has drawn, with typed arrays as lists; NaN and infinities as None."""
        return self.js(
            "document.getElementById(arguments[0]).data.map((t) => ({name: t.name, yaxis: t.yaxis, mode: t.mode, "
            "x: [...(t.x ?? [])], y: [...(t.y ?? [])], z: t.z}))",
            figure,
        )

    def numbers(self, run: str) -> dict[str, float]:
        cells = self.driver.find_elements("css selector", f'#focus-numbers [data-run="{run}"] [data-quantity]')
        return {cell.get_attribute("data-quantity"): float(cell.get_attribute("data-value")) for cell in cells}

    def singular_values(self, run: str, layer: str, step: int) -> np.ndarray:
        folder = "analysis" if step in ANALYSED else "spectra"
        with np.load(self.runs[run] / folder / f"step_{step:08d}.npz") as arrays:
            return arrays[f"{layer}::singular_values"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from selenium import webdriver

    folder = tmp_path_factory.mktemp("report")
    write_run(folder / "plain", steps=STEPS, analysed=ANALYSED, activation="tanh", validation=180)
    changes = {"decay": 0.004, "regularizer": "so", "activation": "tanh"}
    write_run(folder / "so", steps=STEPS, analysed=ANALYSED, seed=1, validation=180, **changes)
    write_report([str(folder / "plain"), str(folder / "so")], folder / "report.html")
    (folder / "downloads").mkdir()

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    profile = f"--user-data-dir={folder / 'profile'}"
    quiet = ("--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-gpu")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", *quiet, profile):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        yield Page(driver, folder)
    finally:
        driver.quit()


def test_it_opens_from_disk_without_a_network_or_an_error(page):
    page.driver.get_log("performance")
    page.driver.get_log("browser")
    page.open()
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [one["request"]["url"] for one in requests if one["documentURL"].startswith(page.url)]  # not Chromium's own
    assert page.url in asked
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}, asked
    assert page.driver.get_log("browser") == []
    page.shows(100)  # the last step, and the layer with eigenvalues that is conditioned worst there
    worst = max(
        (summarize(page.singular_values(run, layer, 100))["cond"], layer)
        for run in page.runs
        for layer in ("blocks/0", "blocks/0/conv1", "blocks/1")
    )
    assert page.element("#layer").get_attribute("value") == worst[1]


def test_the_headline_is_the_summary(page):
    page.open()
    for row, run in enumerate(page.runs, start=1):
        summary = json.loads((page.runs[run] / "summary.json").read_text())
        cell = f".headline tbody tr:nth-child({row})"
        assert page.element(f"{cell} [data-number=test_accuracy]").text == f"{100 * summary['test_accuracy']:.2f} %"
        assert page.element(f"{cell} [data-number=probe_share]").text == f"{100 * summary['probe_share']:.1f} %"
        last = [json.loads(line) for line in (page.runs[run] / "metrics.jsonl").read_text().splitlines()]
        accuracy = [line["accuracy"] for line in last if line["kind"] == "eval"][-1]
        assert page.element(f"{cell} [data-number=eval_accuracy]").text == f"{100 * accuracy:.2f} %"
    assert page.element(".headline").text.splitlines()[0].endswith("regularizer")


def test_the_slider_moves_every_figure_and_number_to_that_steps_files(page):
    from selenium.webdriver.common.keys import Keys

    page.open("#layer=blocks%2F0&step=0")
    page.shows(0)
    seen = set()
    for i, step in enumerate(STEPS):
        if i:
            page.element("#step").send_keys(Keys.ARROW_RIGHT)
        page.shows(step)
        assert page.element("#step-output").text == f"step {step} of 100"
        for run in page.runs:
            values = page.singular_values(run, "blocks/0", step)
            expected = summarize(values)
            shown = page.numbers(run)
            assert shown.keys() == {"sigma_max", "sigma_median", "sigma_min", "cond"}
            for quantity, value in shown.items():
                assert value == pytest.approx(expected[quantity], rel=1e-5), (step, run, quantity)
            median = next(t for t in page.traces("sorted") if t["name"] == run)
            np.testing.assert_allclose(median["y"], np.median(values, axis=0), rtol=1e-5)
            assert median["x"] == list(range(1, 25))
            histogram = next(trace for trace in page.traces("density") if trace["name"] == run)
            width = np.diff(np.log10(histogram["x"])).mean()
            assert np.sum(histogram["y"]) * width == pytest.approx(1, abs=1e-4), "every value is on the axis"
            clouds = {trace["name"]: trace for trace in page.traces("eigen")}
            weights = [trace for trace in page.traces("sorted") if trace["name"] == f"{run}: weights"]
            if step not in ANALYSED:  # what belongs to another step is not drawn
                assert clouds == {} and weights == []
                assert f"No checkpoint was analysed at step {step}" in page.element("#eigen .absent").text
                continue
            with np.load(page.runs[run] / "analysis" / f"step_{step:08d}.npz") as arrays:
                eigenvalues = arrays["blocks/0::eigenvalues"].ravel()
                of_weights = arrays["blocks/0::operator_singular_values"]
            points = np.array(clouds[run]["x"]) + 1j * np.array(clouds[run]["y"])
            np.testing.assert_allclose(points, eigenvalues, rtol=1e-5)
            np.testing.assert_allclose(weights[0]["y"], of_weights, rtol=1e-5)
        marks = page.js("['training', 'heat'].map((id) => document.getElementById(id).layout.shapes[0].x0)")
        assert marks == [step, step]
        seen.add(page.element("#focus-numbers").text)
    assert len(seen) == len(STEPS), "the numbers move with the slider"
    page.element("#step").send_keys(Keys.HOME)
    page.shows(0)
    page.element("#play").click()
    page.shows(100)
    page.wait("return document.getElementById('play').getAttribute('aria-pressed') === 'false'")


def test_curves_are_the_metrics_and_the_map_is_the_summary_of_every_layer(page):
    from selenium.webdriver.support.ui import Select

    page.open("#layer=stem&step=40")
    Select(page.element("#quantity")).select_by_visible_text("smallest singular value")
    page.wait("return location.hash.endsWith('measure=sigma_min')")
    curves = {(trace["name"], trace["yaxis"]): trace for trace in page.traces("training")}
    maps = {trace["name"]: trace for trace in page.traces("heat")}
    for run, workdir in page.runs.items():
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        for kind, name in (("train", "training batch"), ("eval", "validation")):
            loss = curves[f"{run}, {name}", "y"]
            of_kind = [line for line in lines if line["kind"] == kind]
            assert loss["x"] == [line["step"] for line in of_kind]
            np.testing.assert_allclose(loss["y"], [line["loss"] for line in of_kind], rtol=1e-6)
            error = curves[f"{run}, {name}", "y2"]
            np.testing.assert_allclose(error["y"], [1 - line["accuracy"] for line in of_kind], rtol=1e-4)
        for i, layer in enumerate(maps[run]["y"]):
            expected = [summarize(page.singular_values(run, layer, step))["sigma_min"] for step in STEPS]
            np.testing.assert_allclose(maps[run]["z"][i], np.log10(expected), atol=1e-5)
        conditioning = curves[run, "y3"]
        expected = [summarize(page.singular_values(run, "stem", step))["sigma_min"] for step in STEPS]
        np.testing.assert_allclose(conditioning["y"], expected, rtol=1e-5)


def test_the_runs_move_over_the_phases_of_mean_field(page):
    from lax_linalg.random_matrix import critical_point

    for step in (40, 60, 100):
        page.open(f"#step={step}")
        page.shows(step)
        traces = {trace["name"]: trace for trace in page.traces("phase")}
        assert ("No checkpoint was analysed at step 60; see step 40 or 100." in page.element("#phase").text) == (
            step == 60
        )
        if step == 60:
            assert traces == {}
            continue
        for seed, run in enumerate(page.runs):
            expected = np.concatenate([variances(step, seed, name) for name in HIDDEN])
            layers = traces[f"{run}: layers"]
            np.testing.assert_allclose(np.transpose([layers["x"], layers["y"]]), expected, rtol=1e-6)
            np.testing.assert_allclose([traces[run]["x"][0], traces[run]["y"][0]], expected.mean(0), rtol=1e-6)
    line = traces["critical line of tanh"]
    x, y = (np.array([np.nan if v is None else v for v in line[axis]]) for axis in ("x", "y"))
    assert np.interp(1.5, x[np.isfinite(x)], y[np.isfinite(x)]) == pytest.approx(
        critical_point("tanh", 1.5).bias_variance, rel=0.02
    )
    chi = np.array(traces["χ₁"]["z"], float)
    grid = np.array(traces["χ₁"]["x"])
    above = np.interp(grid, x[np.isfinite(x)], y[np.isfinite(x)])[None] < np.array(traces["χ₁"]["y"])[:, None]
    # ordered above the line and chaotic below, but for cells that it runs through
    assert np.mean((chi < 0) == above) > 0.97


def test_layers_are_chosen_by_menu_card_and_map(page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import Select

    page.open("#layer=stem&step=100")
    assert page.element("#focus-title").text.startswith("stem")
    Select(page.element("#layer")).select_by_value("head")
    page.wait("return document.getElementById('focus-title').textContent.startsWith('head')")
    assert "only a square one has eigenvalues" in page.element("#eigen .absent").text
    card = page.element('.card[data-layer="blocks/1"]')
    page.js("arguments[0].scrollIntoView({block: 'center'})", card)
    card.click()
    page.wait("return document.getElementById('focus-title').textContent.startsWith('blocks/1')")
    assert card.get_attribute("aria-pressed") == "true"
    largest = [summarize(page.singular_values(run, "blocks/1", 100))["sigma_max"] for run in page.runs]
    shown = [float(cell.text) for cell in card.find_elements("css selector", ".values > span")[5::4]]
    np.testing.assert_allclose(shown, largest, rtol=1e-3)

    heat = page.element("#heat")
    page.js("arguments[0].scrollIntoView({block: 'center'})", heat)
    x, y, width, height = page.js(
        "(({xaxis, yaxis, width, height}) => [xaxis._offset + xaxis.d2p(40), yaxis._offset + yaxis.d2p('end_to_end'), "
        "width, height])(document.getElementById('heat')._fullLayout)"
    )
    ActionChains(page.driver).move_to_element_with_offset(heat, x - width / 2, y - height / 2).click().perform()
    page.shows(40)
    assert page.element("#layer").get_attribute("value") == "end_to_end"
    assert page.driver.get_log("browser") == []


def test_every_figure_saves_as_a_vector_graphic(page):
    page.open("#layer=blocks%2F0&step=40")
    page.shows(40)
    for figure in FIGURES:
        button = page.element(f'[data-export="{figure}"]')
        page.js("arguments[0].scrollIntoView({block: 'center'})", button)
        page.js("delete document.body.dataset.saved")
        button.click()
        page.wait("return document.body.dataset.saved")
        path = page.downloads / page.js("document.body.dataset.saved")
        of = {"heat": "cond", "phase": "mean_field"}.get(figure, "blocks_0")
        assert path.name == f"{figure}-{of}-step-40.svg"
        for _ in range(500):
            if path.is_file():
                break
            time.sleep(0.02)
        tree = ElementTree.parse(path)
        assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert sum(element.tag.endswith("}path") for element in tree.iter()) > 5, "lines are paths"
        text = " ".join(filter(None, (t.strip() for element in tree.iter() for t in element.itertext())))
        assert "plain" in text
        assert ("step 40" in text) == (figure in ("sorted", "density", "eigen", "phase"))


def luminance(color: str) -> float:
    channels = [float(value) / 255 for value in re.findall(r"[\d.]+", color)[:3]]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_legible(page, scheme):
    """Contrast as the Web Content Accessibility Guidelines 2.1 define it: 4.5 for text, 3 for lines."""
    page.open("#layer=blocks%2F0&step=40", scheme=scheme)
    paper = page.js("getComputedStyle(document.documentElement).backgroundColor")
    panel = page.js("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert (luminance(paper) > 0.5) == (scheme == "light")
    for selector, ground in (("h1", paper), (".lead", paper), (".caption", panel), ("figcaption h2", panel)):
        color = page.js("getComputedStyle(document.querySelector(arguments[0])).color", selector)
        assert contrast(color, ground) >= 4.5, selector
    ticks = page.js("getComputedStyle(document.querySelector('#sorted .xtick text')).fill")
    assert contrast(ticks, panel) >= 4.5
    lines = page.js(
        "[...document.querySelectorAll('#sorted .js-line')].map((line) => getComputedStyle(line))"
        ".filter((style) => parseFloat(style.strokeWidth) > 0).map((style) => style.stroke)"
    )
    assert len(set(lines)) >= 2
    for line in lines:
        assert contrast(line, panel) >= 3


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_overflows(page, width):
    page.open("#layer=blocks%2F0%2Fconv1&step=40", width=width)
    assert page.js("document.documentElement.scrollWidth") <= width
    wide = page.js(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll')).filter((e) => {"
        "const box = e.getBoundingClientRect(); return box.width > 1 && box.right > innerWidth + 1; })"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    for figure in FIGURES:
        box = page.element(f"#{figure}").rect
        assert box["width"] > 0.75 * (width if width < 600 else 380)
        assert box["height"] >= 290
    assert page.driver.get_log("browser") == []
