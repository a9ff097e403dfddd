"""The page as a visitor has it, in a real browser; and the command that serves it, where it refuses."""

import contextlib
import io
import re
import shutil
import signal
import socket
import sys

import pytest
from PIL import Image
from training.tiny import start, tiny_config, trained  # noqa: F401

from compvae_fast.cli import main
from compvae_fast.training import train

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def serving(run):
    """The page's address, and what must be true of its end."""
    pytest.importorskip("bokeh", reason="bokeh is not installed")
    process = start("explore", run, "--port=0", "--no-browser")
    said = process.stderr.readline()
    assert "http://127.0.0.1:" in said, said + process.stderr.read()
    yield re.search(r"http://\S+", said)[0]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", ""), "Ctrl-C ends it, and nothing was complained of"


@pytest.fixture(scope="module")
def served(trained):  # noqa: F811
    with serving(trained) as url:
        yield url


@pytest.fixture(scope="module")
def served_dots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots") / "run"
    train(tiny_config("dots-small", steps=2), folder, show=False)
    with serving(folder) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@contextlib.contextmanager
def visit(browser, url):
    """A visit that must ask nobody but this machine, and complain of nothing."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    asked, complaints = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(url)
    opened.get_by_text("parts, K").wait_for()
    yield opened
    assert complaints == []
    assert {request for request in asked if not request.startswith((url, "data:"))} == set()
    opened.close()


@pytest.fixture
def page(served, browser):
    with visit(browser, served) as opened:
        yield opened


@pytest.fixture
def dots(served_dots, browser):
    with visit(browser, served_dots) as opened:
        yield opened


def numbers(page):
    """The strip of numbers: {caption: value}."""
    shown = page.locator("b + small").evaluate_all("all => all.map(e => [e.innerText, e.previousSibling.innerText])")
    return dict(shown)


def parts(page, expected):
    """Waits for the page to show so many parts."""
    page.locator("b", has_text=re.compile(f"^{expected}$")).first.wait_for()
    return numbers(page)["parts, K"] == expected


def band(page):
    """The largest value of the upper curve that is drawn."""
    return page.evaluate(
        "Math.max(...Bokeh.documents[0].get_model_by_name('whole').renderers[0].data_source.get_column('high'))"
    )


def test_parts_are_added_removed_and_repeated(page):
    assert parts(page, "4")
    before = band(page)
    page.get_by_role("button", name="+", exact=True).nth(2).click()
    assert parts(page, "5") and band(page) != before
    page.get_by_role("button", name="−", exact=True).nth(0).click()
    page.get_by_role("button", name="−", exact=True).nth(0).click()
    page.get_by_role("button", name="−", exact=True).nth(0).click()
    assert parts(page, "3"), "below none there is nothing to take away"
    page.get_by_role("button", name="repeat all").click()
    assert parts(page, "6")
    page.get_by_role("button", name="clear").click()
    assert parts(page, "0")


def test_a_count_goes_up_to_a_million(page):
    field = page.locator("input.bk-input").nth(1)
    field.fill("999999")
    field.press("Enter")
    assert parts(page, "1,000,003")
    page.get_by_role("button", name="×10").nth(1).click()
    assert parts(page, "1,000,004"), "a million of a label is the most"
    assert float(numbers(page)["mean peak"].replace(",", "")) > 0
    field.fill("-3")
    field.press("Tab")
    page.get_by_role("button", name="×10").nth(1).click()
    assert parts(page, "1,000,004") and field.input_value() == "1000000", "what cannot be leaves what was there"


def test_new_draws_and_the_truth(page):
    before = band(page)
    page.get_by_role("button", name="new draws").click()
    page.wait_for_function(
        "old => Math.max(...Bokeh.documents[0].get_model_by_name('whole').renderers[0].data_source.get_column('high'))"
        " != old",
        arg=before,
    )
    page.get_by_role("button", name="the truth beside it").click()
    page.locator("b i", has_text="true").first.wait_for()


def test_another_visitor_has_parts_of_their_own(page, browser, served):
    page.get_by_role("button", name="clear").click()
    assert parts(page, "0")
    other = browser.new_page()
    other.goto(served)
    assert parts(other, "4")
    other.close()


def panel(page, name):
    """Where a figure's frame is on the screen: left, top, side."""
    return page.evaluate(
        """name => {
            const view = Bokeh.index.find_one_by_id(Bokeh.documents[0].get_model_by_name(name).id)
            const at = view.el.getBoundingClientRect(), box = view.frame.bbox
            return [at.left + box.left, at.top + box.top, box.width]
        }""",
        name,
    )


def marks(page):
    """The places that are marked on the mean."""
    return page.evaluate(
        """() => {
            const source = Bokeh.documents[0].get_model_by_name('whole').renderers[1].data_source
            return source.get_column('x').map((x, i) => [x, source.get_column('y')[i]])
        }"""
    )


def test_a_dot_is_added_where_the_mean_is_clicked(dots):
    assert parts(dots, "4") and len(marks(dots)) == 4
    left, top, side = panel(dots, "whole")
    dots.get_by_role("button", name="blue").click()
    dots.mouse.click(left + 0.8 * side, top + 0.3 * side)
    assert parts(dots, "5")
    assert marks(dots)[-1] == pytest.approx([0.63, -0.42], abs=0.02), "from left to right, and downwards"
    assert dots.locator(".bk-clearfix i").last.get_attribute("style") == "background: #0000ff"
    dots.mouse.click(left + 1, top + 1)
    assert parts(dots, "6") and marks(dots)[-1] == [-0.9, -0.9], "no further out than the model was trained"


def test_dots_are_removed_and_repeated_up_to_a_million(dots):
    rows = dots.get_by_role("button", name="×10")
    dots.get_by_role("button", name="−", exact=True).nth(1).click()
    assert parts(dots, "3") and rows.count() == 3, "with its last part a place goes"
    assert [0.5, -0.4] not in marks(dots)
    dots.get_by_role("button", name="add").click()
    dots.get_by_role("button", name="add").click()
    assert parts(dots, "5") and rows.count() == 4, "the same place twice"
    field = dots.locator("input.bk-input").nth(2)  # behind the two of the place to add at
    field.fill("1000000")
    field.press("Enter")
    assert parts(dots, "1,000,004")
    dots.get_by_role("button", name="halve all").click()
    assert parts(dots, "500,001") and rows.count() == 2
    dots.get_by_role("button", name="8 random").click()
    assert parts(dots, "8") and rows.count() == 8
    dots.get_by_role("button", name="clear").click()
    assert parts(dots, "0") and rows.count() == 0


def test_images_stand_upright(dots):
    """The true mean of red above on the left and white below on the right, as the screen has it."""
    dots.get_by_role("button", name="the truth beside it").click()
    dots.locator("b i", has_text="true").first.wait_for()
    left, top, side = panel(dots, "truth")
    seen = Image.open(io.BytesIO(dots.screenshot())).convert("RGB")
    above, below = (
        seen.getpixel((round(left + x * side), round(top + y * side))) for x, y in ((0.15, 0.15), (0.9, 0.85))
    )
    assert above[0] > 200 and max(above[1:]) < 60 and min(below) > 200


def refused(capsys, *arguments):
    assert main([str(argument) for argument in ("explore", *arguments, "--no-browser")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("compvae_fast: error: "), err
    return err


def test_a_port_in_use_is_said_in_a_line(capsys, trained):  # noqa: F811
    pytest.importorskip("bokeh", reason="bokeh is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(capsys, trained, f"--port={port}")
    assert f"127.0.0.1:{port} cannot be served: Address already in use" in line
    assert "--port: expected 0 to 65535, got 70000" in refused(capsys, trained, "--port=70000")
    assert "cannot be served" in refused(capsys, trained, "--address=203.0.113.1")


def test_a_run_that_is_not_there_is_said_in_a_line(capsys, tmp_path):
    assert "does not exist" in refused(capsys, tmp_path / "run")


def test_a_missing_extra_is_said_in_a_line(capsys, monkeypatch, trained):  # noqa: F811
    for name in {"bokeh", *(name for name in sys.modules if name.startswith("bokeh."))}:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("page", "server"):
        monkeypatch.delitem(sys.modules, f"compvae_fast.explore.{name}", raising=False)
    assert "bokeh is not installed; explore needs pip install 'compvae-fast[explore]'" in refused(capsys, trained)
