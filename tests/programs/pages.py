"""The pages of `minibert explain` in a real browser: keys, clicks, numbers, sizes, contrast, pictures.

    python -m tests.programs.pages --output FOLDER [--axe axe.min.js]

It needs Chromium (`chromium` on the PATH, or --chromium) and playwright (`bench` extra). For MiniLM, minibert-small
with two masks, a classifier, a pair, 200 pieces and Chinese it prints the size of the page and the time until it
answers, steps through it with the keyboard alone, compares numbers on the page with a trace, turns scripts off, and
takes pictures at 1280 and 390 pixels, light and dark. With axe-core (from npm: `npm pack axe-core`) it lists what a
screen reader or a poor eye would stumble over.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from minibert import BertForMaskedLM, BertForSequenceClassification, BertModel, BertTokenizer
from minibert.base import Model
from minibert.study.explain import explain
from minibert.study.sentence import in_float64, run, sentence
from tests.programs.benchmarks.material import official_minilm

LONG = "It was a long film about a short war, and nobody who saw it knew why it had been made. " * 12


def subjects() -> Iterator[tuple[str, Model, BertTokenizer, str, dict[str, Any]]]:
    """Name, model, tokenizer, text and other arguments of each page."""
    small = BertForMaskedLM.from_pretrained("minibert-small"), BertTokenizer.from_pretrained("minibert-small")
    yield "masks", *small, "Do not waste your [MASK] on this unwatchable film, it is [MASK].", {}
    yield "compare", *small, "The [MASK] was good.", {"compare": "The awfully long [MASK] was bad."}
    classifier = BertForSequenceClassification.from_pretrained("minibert-sentiment"), small[1]
    yield "classifier", *classifier, "This movie is so bad, I almost fell asleep.", {}
    yield "pair", *classifier, "It was built in 1889.", {"pair": "When was it built?"}
    folder = official_minilm()
    minilm = BertModel.from_pretrained(folder), BertTokenizer.from_pretrained(folder)
    yield "minilm", *minilm, " ".join(LONG.split()[:26]), {}
    yield "200", *small, " ".join(LONG.split()[:180]), {}
    yield "chinese", *minilm, "北京是中国的首都。", {}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.pages", description="explain's pages in a browser")
    parser.add_argument("--output", type=Path, default=Path("runs/pages"), help="folder of pages and pictures")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser (default: chromium)")
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        for name, model, tokenizer, text, more in subjects():
            path = options.output / f"{name}.html"
            explain(model, tokenizer, text, name=name, **more).save(path)
            print(f"{name}: {path.stat().st_size / 1e6:.2f} MB,", ", ".join(examine(browser, path, model, options)))
            check_numbers(browser, path, model, tokenizer, text, more.get("pair"))
        browser.close()


def examine(browser: Any, path: Path, model: Model, options: argparse.Namespace) -> Iterator[str]:
    """Opens a page in each size and colour scheme; what it says is the time, the steps and the faults."""
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
        page, problems = opened(browser, path, width, scheme)
        started = time.perf_counter()
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        if width == 1280 and scheme == "light":
            yield f"opens in {time.perf_counter() - started:.2f} s"
        steps = page.evaluate("steps.length")
        for step in range(steps):
            assert f"step {step + 1} of {steps}" in page.inner_text("#steps")
            assert page.inner_text("#step-title") and page.evaluate("document.documentElement.scrollWidth") <= width
            if step < 8 or step >= steps - 2:
                page.screenshot(path=path.with_name(f"{path.stem}-{width}-{scheme}-{step:02}.png"), full_page=True)
                if options.axe and width == 1280:
                    yield from complaints(page, options.axe, f"{scheme}, step {step}")
            page.keyboard.press("ArrowRight")
        assert problems == [], problems
    yield f"{steps} steps by keyboard"
    page, _ = opened(browser, path, 1280, "light", java_script_enabled=False)
    page.goto(path.resolve().as_uri())
    assert page.is_visible("[data-part=pieces]") and page.is_visible("[data-part=view] img")
    page.screenshot(path=path.with_name(f"{path.stem}-no-script.png"), full_page=True)


def opened(browser: Any, path: Path, width: int, scheme: str, **more: Any) -> tuple[Any, list[str]]:
    """An empty tab, and the list that errors and requests for anything else will go to."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or problems.append(request.url))
    return page, problems


def complaints(page: Any, axe: Path, where: str) -> Iterator[str]:
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(result => result.violations.map(v => [v.id, v.nodes[0].html.slice(0, 120)]))")
    yield from (f"{rule} in {where}: {node}" for rule, node in found)


def check_numbers(
    browser: Any, path: Path, model: Model, tokenizer: BertTokenizer, text: str, pair: str | None
) -> None:
    """Clicks on a piece and a head, and compares what the equations say with a trace in float64."""
    exact = in_float64(model)
    given = sentence(tokenizer, text, pair, exact)
    _, trace = run(exact, given.inputs, "*")
    page, _ = opened(browser, path, 1280, "light")
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html[data-ready]")
    layer, head, reads, is_read = 1, 2, len(given.tokens) - 2, 1
    page.click(f'#side [aria-label="layer {layer}, head {head}"]')
    page.click(f'#strip [data-from="{reads}"]')
    page.click(f'#panel button[data-to="{is_read}"]')
    assert page.evaluate("document.activeElement.dataset.to") == str(is_read)  # a redrawn button keeps the focus
    said = number(page.inner_text(".equation b"))
    wanted = trace[f"layers.{layer}.attention.pattern"][0, head, reads, is_read].item()
    assert abs(said - wanted) <= 2e-3 * wanted, (said, wanted)
    for _ in range(2):  # context, then output, residual and norm
        page.keyboard.press("ArrowRight")
    page.fill('input[data-field="dimension"]', "17")
    page.keyboard.press("Tab")
    residual, norm = (number(page.inner_text(f".equation >> nth={place} >> b")) for place in (0, 1))
    for found, name in ((residual, "residual"), (norm, "norm")):
        wanted = trace[f"layers.{layer}.attention.{name}"][reads, 17].item()
        assert abs(found - wanted) <= 2e-3 * max(1.0, abs(wanted)), (name, found, wanted)
    page.evaluate("go({step: steps.length - 1})")
    if page.query_selector("#panel .causes button"):
        page.press("#panel .causes button", "Enter")
        assert page.evaluate("document.activeElement.id") == "step-title"  # it goes where the button was
    for other in range(model.config.num_hidden_layers):
        page.evaluate("n => go({step: steps.findIndex(s => s.layer === n && s.kind === 'feed')})", other)
        found = torch.tensor(page.evaluate("n => Array.from(layer(n).output)", other), dtype=torch.float64)
        wanted = trace[f"layers.{other}.feed_forward.norm"].flatten()
        assert float((found - wanted).abs().max()) < 5e-3, other


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


if __name__ == "__main__":
    main()
