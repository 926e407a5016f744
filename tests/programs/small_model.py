"""Measures what the card of weights/minibert-small states.

    python -m tests.programs.small_model ship RUN --output FOLDER
    python -m tests.programs.small_model masks MODEL
    python -m tests.programs.small_model pays MODEL --output FOLDER

`ship` saves the model of a finished pre-training run in half precision and measures it, and the
run's own, on the documents that the run held out. `masks` fills the [MASK] of sentences that were
written down, with the words a reader would call sensible, before there was a model to try them on.
`pays` fine-tunes the pre-trained model and one of the same sizes with random weights on the same
IMDB reviews, with the same settings and seeds, and tests the difference. Runs that are finished in
FOLDER are not repeated, so it can be interrupted and run again, and two sizes can be trained side
by side (`--sizes`). `ship` and `pays` need MINIBERT_DATA.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minibert import BertForPreTraining
from minibert.data import IGNORED_LABEL
from minibert.fast.precision import choose_precision
from minibert.io.files import read_json, write_json, write_tensors
from minibert.io.source import open_source
from minibert.io.tables import table
from minibert.tokenizer import BertTokenizer
from minibert.training import Batch
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import Settings
from minibert.workbench.tasks.common import sums_of_files
from minibert.workbench.tasks.compare import compare
from minibert.workbench.tasks.fill_mask import MaskFiller
from minibert.workbench.tasks.pretrain import _prepare
from minibert.workbench.tasks.pretrain_scores import baselines, measure
from minibert.workbench.tasks.seeds import train_seeds
from tests.programs.benchmarks.material import data_folder

# A sentence, and words that would be sensible in it. The first 14 ask for grammar or for words that
# film reviews are full of, the other 10 for agreement across a distance, facts, or negation.
MASKS = (
    ("This is one of the best [MASK] I have ever seen.", "movies films things shows"),
    ("The acting was [MASK] and I was bored from start to finish.", "bad terrible awful poor"),
    ("I would [MASK] recommend this film to anyone.", "highly not definitely strongly never"),
    ("The [MASK] was written by a man who had never been to school.", "story script book film"),
    ("He looked at her and [MASK] nothing.", "said saw did had"),
    ("She has been waiting [MASK] three hours.", "for about over"),
    ("They went to the [MASK] to see a film.", "theater cinema movies theatre movie"),
    ("The president of the United [MASK] spoke to the nation.", "states"),
    ("It was a dark and stormy [MASK].", "night day"),
    ("My fellow [MASK], the state of our union is strong.", "citizens americans"),
    ("I could not stop laughing, it was so [MASK].", "funny hilarious bad"),
    ("The two main characters fall in [MASK] with each other.", "love"),
    ("The ending was a complete [MASK] of time.", "waste"),
    ("Do not waste your [MASK] on this one.", "time money"),
    ("The keys to the old cabinet [MASK] on the table.", "are were lay"),
    ("The boy who knew all of the answers [MASK] very proud.", "was is"),
    ("Paris is the capital of [MASK].", "france"),
    ("Two plus two is [MASK].", "four 4"),
    ("A week has [MASK] days.", "seven 7"),
    ("Snow is cold and fire is [MASK].", "hot warm"),
    ("The opposite of black is [MASK].", "white"),
    ("A dog barks and a cat [MASK].", "meows purrs"),
    ("The film was not good, it was [MASK].", "bad terrible awful horrible boring"),
    ("She is a great [MASK], her films made her famous.", "actress director star actor"),
)

# Reviews to train on -> how. The reviews that choose the epoch come on top, but for the whole set.
SIZES: dict[int, dict[str, Any]] = {
    500: {"train_subset": 625, "validation_fraction": 0.2, "epochs": 8},
    2_000: {"train_subset": 2_500, "validation_fraction": 0.2, "epochs": 4},
    25_000: {"validation_fraction": 0.05, "epochs": 1},  # 23,750, and 1,250 for the epoch
}
HOW: dict[str, Any] = {
    "max_length": 128,
    "batch_size": 16,
    "learning_rate": 2e-4,
    "test_subset": 5_000,
    "data_seed": 0,
    "threads": 1,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.small_model", description=__doc__)
    parser.add_argument("what", choices=("ship", "masks", "pays"))
    parser.add_argument("model", help="folder of the pre-trained model, or of its run")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--max-length", type=int, default=HOW["max_length"], metavar="N")
    parser.add_argument("--output", type=Path, help="for the runs of pays; for the model to ship")
    options = parser.parse_args()
    if options.what == "masks":
        print(masks(options.model))
        return
    if options.output is None:
        parser.error(f"{options.what} needs --output")
    if options.what == "ship":
        print(ship(Path(options.model), options.output))
        return
    how = {**HOW, "max_length": options.max_length}
    rows = [pays(options.model, options.output, size, options.seeds, how) for size in options.sizes]
    print(table(rows, ("reviews", "random (A)", "pre-trained (B)", "difference")))


def ship(run: Path, folder: Path) -> str:
    """Writes the model of a run as it is shipped; a table of the scores before and after."""
    record = read_json(run / "run.json")
    if record["status"] != "finished":
        raise SystemExit(f"{run} is not finished.")
    prepared = _prepare(PretrainSettings(**record["settings"]), progress=True)
    if prepared.record["data"] != record["data"]:
        raise SystemExit(f"The corpus is not the one that {run} read.")
    model, tokenizer = BertForPreTraining.from_pretrained(run), BertTokenizer.from_pretrained(run)
    write_shipped(model, tokenizer, folder)

    breaks = torch.tensor(tokenizer.ids(["<", "br", "/", ">"]))
    columns = {}
    for words, batches in (
        ("", prepared.validation),
        (" without < br / >", [_without(breaks, batch) for batch in prepared.validation]),
    ):
        guesses = baselines(prepared.train.pieces.ids, batches, prepared.masking)
        columns[f"guess{words}"] = guesses["unigram"] | guesses["majority"]
        for name, opened in (("trained", model), ("shipped", BertForPreTraining.from_pretrained(folder))):
            precision = choose_precision("fp32", "cpu")
            columns[f"{name}{words}"] = measure(opened, batches, precision, progress=name)
    rows = [
        (score, *(f"{column[score]:.4f}" if score in column else "" for column in columns.values()))
        for score in columns["trained"]
    ]
    return table(rows, ("", *columns))


def write_shipped(model: BertForPreTraining, tokenizer: BertTokenizer, folder: Path) -> None:
    """Numbers in half precision, to be opened in float32, and BERT's dropout, for fine-tuning."""
    model.save_pretrained(folder)  # its config.json says float32
    halves = {name: tensor.half() for name, tensor in model.official_state_dict().items()}
    write_tensors(folder / "model.safetensors", halves)
    rates = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    write_json(folder / "config.json", read_json(folder / "config.json") | rates)
    tokenizer.save_pretrained(folder)


def _without(pieces: torch.Tensor, batch: Batch) -> Batch:
    """A batch in which these pieces are not asked for, wherever they stand."""

    def load() -> dict[str, Any]:
        inputs = dict(batch.load())
        labels = inputs["labels"]  # (B, S)
        inputs["labels"] = labels.masked_fill(torch.isin(labels, pieces), IGNORED_LABEL)  # (B, S)
        return inputs

    return replace(batch, load=load)


def masks(model: str) -> str:
    """A table of sentences, whether the most likely word is sensible, and the five likeliest."""
    fill = MaskFiller.from_pretrained(model)
    rows, right = [], 0
    for sentence, sensible in MASKS:
        [filled] = fill(sentence)
        is_sensible = filled.pieces[0][0] in sensible.split()
        right += is_sensible
        said = ", ".join(f"{piece} {chance:.2f}" for piece, chance in filled.pieces)
        rows.append(("yes" if is_sensible else "no", sentence, said))
    vocabulary = BertTokenizer.from_pretrained(model).vocabulary
    could = sum(any(word in vocabulary for word in words.split()) for _, words in MASKS)
    lines = [table(rows, ("sensible", "sentence", "likeliest")), ""]
    return "\n".join([*lines, f"{right} of {len(MASKS)} as expected; {could} have such a word in the vocabulary"])


def pays(model: str, output: Path, size: int, seeds: int, how: dict[str, Any]) -> tuple[str, str, str, str]:
    """Fine-tunes both models on so many reviews; their accuracies on test, with 95% intervals."""
    data = data_folder() / "imdb"
    sources = {"random": str(_random(Path(model), output)), "pre-trained": model}
    folders, cells = [], []
    for name, source in sources.items():
        folder = output / f"{name}-{size}"
        settings = Settings(
            model=source,
            train=str(data / "train.jsonl.gz"),
            test=str(data / "test.jsonl.gz"),
            output=folder,
            **{**how, **SIZES[size]},
        )
        sums = sums_of_files(open_source(source))
        for record in folder.glob("*/run.json"):
            if read_json(record)["model"]["files"] != sums:
                raise SystemExit(f"{folder} holds runs of another model: name another --output.")
        group = train_seeds(settings, seeds)
        spread = group.spreads("test")["accuracy"]
        each = ", ".join(f"{value:.4f}" for value in spread.values)
        cells.append(f"{spread.mean:.4f} ({spread.low:.4f} to {spread.high:.4f}; {each})")
        folders.append(folder)
    [pair] = compare(folders, examples=0).pairs
    return (f"{size:,}", cells[0], cells[1], pair.sentence())


def _random(model: Path, output: Path) -> Path:
    """A folder with a model of the same sizes and vocabulary that has learned nothing."""
    folder = output / "random"
    config = BertForPreTraining.from_pretrained(model).config
    drawn = BertForPreTraining(config, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as made:
        drawn.save_pretrained(made)
        BertTokenizer.from_pretrained(model).save_pretrained(made)
        if folder.exists():  # of the other size, which may be measured at this moment
            if sums_of_files(open_source(folder)) != sums_of_files(open_source(made)):
                raise SystemExit(f"{folder} is of another model: name another --output.")
        else:
            shutil.copytree(made, folder)
    return folder


if __name__ == "__main__":
    main()
