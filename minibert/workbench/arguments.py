"""The options of every command, and the words of --help.

Options that are settings of a run are derived from the fields of the settings; the others are
written here. Nothing here imports torch, so that --help and a wrong option answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from itertools import groupby
from typing import Any, NamedTuple

from minibert.io.version import __version__
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import POOLINGS, READING, Settings, is_list, type_of

# The groups of settings, in the order of --help -> its headings.
GROUPS = {
    "": None,
    "data": "data",
    "reading": "how to read the data",
    "model": "a new model, or one to continue from",
    "training": "training",
    "probe": "instead of fine-tuning",
    "run": "run folder and machine",
}

MODEL = "model folder, run folder, minibert-small or Hub id"
HUB = "branch, tag or commit of the model on the Hub"

EXAMPLES = """\
to begin with:
  minibert train
      fine-tune the small model that ships with minibert on sample reviews; no download
  minibert predict runs/001 "what a lovely day"
      use the model that was trained
  minibert report runs/001
      see its scores, curves and errors on an HTML page

with data of your own (a table with the columns text and label):
  minibert data --train train.csv --test test.csv
  minibert train --model bert-base-uncased --train train.csv --test test.csv
  minibert evaluate runs/002 more.csv
  minibert compare runs/001 runs/002

A model is named by its folder, a run folder, minibert-small (which ships with minibert), or its id
on the Hub, such as bert-base-uncased. minibert COMMAND --help shows all options of a command.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of one command.

    argparse accepts no more texts after an option that follows the model, as in
    `predict MODEL --json "a text"`: what it leaves over are texts, unless they look like options.
    After `--` everything is a text.
    """
    options, rest = _parser().parse_known_args(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    wrong = [item for item in rest[:end] if item.startswith("-")]
    if wrong or (rest and not hasattr(options, "file")):
        options.parser.error(f"unrecognized arguments: {' '.join(wrong or rest)}")
    if rest:
        options.text = [*options.text, *rest[:end], *rest[end + 1 :]]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minibert",
        description="A from-scratch BERT: fine-tune it, use it, look inside.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"minibert {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=command.short,
            description=command.long,
            epilog=f"example: minibert {name} {command.example}",
            # An option of a run that is not given leaves no trace: a recipe may have it.
            argument_default=argparse.SUPPRESS if name in ("train", "pretrain") else None,
        )
        one.set_defaults(command=name, parser=one)
        one.add_argument(
            "--debug", action="store_true", default=False, help="show the traceback of an error"
        )
        one.add_argument(
            "--quiet", action="store_true", default=False, help="no progress bars and messages"
        )
        command.add(one)
    return parser


# --- settings as options ------------------------------------------------------------------------


def _add_run(
    parser: argparse.ArgumentParser, kind: type[Settings] | type[PretrainSettings]
) -> None:
    """All settings of a run, by group, and --resume."""
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="continue a run that was stopped, from its last checkpoint, or from the one named "
        "(RUN/state/step-N)",
    )
    order = list(GROUPS)
    settings = sorted(fields(kind), key=lambda item: order.index(item.metadata["group"]))
    for name, items in groupby(settings, key=lambda item: item.metadata["group"]):
        group = parser.add_argument_group(GROUPS[name]) if name else parser
        for item in items:
            _add_setting(group, item, item.default, argparse.SUPPRESS)


def _add_settings(parser: argparse.ArgumentParser, keys: Sequence[str], **defaults: Any) -> None:
    """Some settings of fine-tuning, for a command that reads data or runs a model as it does."""
    for item in fields(Settings):
        if item.name in keys:
            default = defaults.get(item.name, item.default)
            _add_setting(parser, item, default, default)


def _add_setting(place: Any, item: Field[Any], shown: Any, default: Any) -> None:
    """The option of one setting; --help shows `shown` as its default."""
    rule, kind = item.metadata["rule"], type_of(item)
    how: dict[str, Any] = {"dest": item.name, "default": default, "help": item.metadata["help"]}
    if shown is not False and shown not in (None, (), MISSING):
        how["help"] += f" (default: {_written(shown)})"
    option = "--" + item.name.replace("_", "-")
    if kind == "bool":
        switch = "store_true" if item.type == "bool" else argparse.BooleanOptionalAction
        place.add_argument(option, action=switch, **how)
        return
    how["choices"] = None if rule is None else rule.choices
    if how["choices"] is None or is_list(item):
        how["metavar"] = {"int": "N", "float": "X"}.get(kind, item.metadata["metavar"])
    if is_list(item) and how["choices"]:
        option, how["action"] = option.removesuffix("s"), "append"
    elif is_list(item):
        how["nargs"] = "+"
    place.add_argument(option, type={"int": int, "float": float}.get(kind), **how)


def _written(default: Any) -> str:
    return f"{default:g}".replace("e-0", "e-") if isinstance(default, float) else str(default)


# --- the commands -------------------------------------------------------------------------------


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", default=[], metavar="DATA", help="the training data first"
    )
    for name in ("train", "validation", "test"):
        parser.add_argument(f"--{name}", metavar="DATA", help=f"the {name} split")
    parser.add_argument(
        "--split", help="part of a folder or Hub data set, for DATA without an option"
    )
    _add_settings(parser, READING)
    parser.add_argument("--model", help="count tokens of this model (default: count words)")
    parser.add_argument("--revision", help=HUB)
    parser.add_argument(
        "--max-length", type=int, metavar="N", help="limit in tokens (default: the model's)"
    )
    _add_json(parser)


def _train(parser: argparse.ArgumentParser) -> None:
    _add_run(parser, Settings)
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N runs that differ only in their seed, from --seed on, and print mean and "
        "spread of their scores; finished ones are not repeated",
    )


def _pretrain(parser: argparse.ArgumentParser) -> None:
    _add_run(parser, PretrainSettings)


def _recipes(parser: argparse.ArgumentParser) -> None:
    """No options."""


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL)
    parser.add_argument("data", help="labelled text, with labels that the model knows")
    _add_settings(parser, [key for key in READING if key != "problem_type"])
    parser.add_argument(
        "--split", default="test", help="part of a folder or Hub data set (default: test)"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="also write metrics.json, errors.csv and others there"
    )
    _add_batches(parser)
    _add_settings(parser, ["overlap", "revision", "device", "precision"])
    _add_json(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder")
    parser.add_argument("--output", metavar="FILE", help="the page (default: RUN/report.html)")
    parser.add_argument(
        "--features",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the model on up to 2,000 texts to draw its features (default: %(default)s)",
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="+", help="run folders, or folders of train --seeds")
    parser.add_argument(
        "--examples",
        type=int,
        default=5,
        metavar="N",
        help="examples to show that only one of the runs gets right (default: 5)",
    )
    _add_json(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL)
    _add_texts(parser)
    _add_pair(parser)
    parser.add_argument(
        "--choice",
        dest="choices",
        action="append",
        metavar="TEXT",
        help="one of the texts to choose from; give it two times or more",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="N",
        help="answers to print for a question, of the 20 best of each window (default: 1)",
    )
    parser.add_argument(
        "--allow-no-answer",
        action="store_true",
        help="a question may have no answer in its context (if the model was trained for that)",
    )
    parser.add_argument(
        "--allow-untrained",
        action="store_true",
        help="predict with a head that was never trained; its answers are noise",
    )
    _add_batches(parser)
    _add_settings(parser, ["overlap", "revision", "device", "precision"])
    _add_json(parser)


def _fill_mask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL)
    _add_texts(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="words per [MASK] (default: 5)"
    )
    _add_settings(parser, ["revision", "device"])
    _add_json(parser)


def _embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL)
    _add_texts(parser)
    parser.add_argument("--output", metavar="FILE", help="write all vectors to a .npy file")
    parser.add_argument(
        "--pooling",
        choices=POOLINGS,
        help="default: what the modules.json of the model says, else mean",
    )
    _add_settings(parser, ["layer"])
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1 (default: what modules.json says, else no)",
    )
    _add_batches(parser)
    _add_settings(parser, ["revision", "device", "precision"], precision="fp32")
    _add_json(parser)


def _weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help=MODEL)
    parser.add_argument("--revision", help=HUB)
    parser.add_argument(
        "--verify",
        nargs="*",
        metavar="ID",
        help="instead: download official checkpoints (all, or these) and compare their hashes "
        "with the table that ships with minibert",
    )
    _add_json(parser)


def _tokenize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL)
    _add_texts(parser)
    _add_pair(parser)
    parser.add_argument("--revision", help=HUB)
    _add_json(parser)


def _vocabulary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="+",
        help=".txt or .jsonl files (may be .gz), folders of them, or installed-docs: the "
        "docstrings of Python, numpy and torch on this machine",
    )
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="where to save the tokenizer"
    )
    parser.add_argument(
        "--size",
        type=int,
        default=8000,
        metavar="N",
        help="number of pieces, with special tokens (default: 8000)",
    )
    parser.add_argument("--cased", action="store_true", help="keep capitals and accents")
    parser.add_argument(
        "--column", default="text", metavar="NAME", help="of the text in .jsonl (default: text)"
    )


class Command(NamedTuple):
    """What --help says of a command, and what adds its options."""

    short: str
    long: str
    example: str  # what follows `minibert NAME`
    add: Callable[[argparse.ArgumentParser], None]


COMMANDS = {
    "data": Command(
        "check labelled text before training on it",
        "Prints class counts, lengths, examples and problems, the worst first: sorted labels, a "
        "split with one class, duplicates, texts that are in two splits (leakage), texts that are "
        "cut off, unknown pieces. The exit code is 2 if a problem makes results meaningless.",
        "--train train.csv --test test.csv --model bert-base-uncased",
        _data,
    ),
    "train": Command(
        "fine-tune a model on labelled text",
        "Fine-tunes a pre-trained model on labelled text: a table of texts or pairs of texts "
        "(csv, tsv, jsonl, parquet), a folder like aclImdb, tagged sentences (.conll, or lists of "
        "words), questions with answers (.json in SQuAD's format), or texts with choices "
        "(--choices). Writes a run folder with the model, its scores and every example with its "
        "loss. Without --model and --train it trains minibert-small on sample reviews.",
        "--model bert-base-uncased --train train.csv --test test.csv",
        _train,
    ),
    "pretrain": Command(
        "pre-train a BERT on plain text",
        "Pre-trains a model on plain text by masked language modelling and next-sentence "
        "prediction: a freshly initialised model with a vocabulary of its own, or an existing one "
        "(--model), to adapt it to a domain. Writes a run folder with the model and its scores on "
        "documents that it was not trained on.",
        "--corpus installed-docs",
        _pretrain,
    ),
    "recipes": Command(
        "list the settings that --recipe can start from",
        "Lists the recipes for minibert train --recipe NAME and minibert pretrain --recipe NAME: "
        "what each is, the score of the tutorial that it repeats, and the mistakes of that "
        "tutorial, which --fault brings back.",
        "",
        _recipes,
    ),
    "evaluate": Command(
        "measure a fine-tuned model on labelled text",
        "Prints the scores of a fine-tuned model on labelled text, with 95% intervals.",
        "runs/001 test.csv",
        _evaluate,
    ),
    "report": Command(
        "make an HTML page about a run",
        "Writes one HTML page about a finished run, which needs no network and no other file: "
        "scores beside baselines, learning curves, confusion, calibration, and every example to "
        "search and filter. If matplotlib is installed, pictures too, in the run folder.",
        "runs/001",
        _report,
    ),
    "compare": Command(
        "compare runs and test whether they differ",
        "Prints runs side by side: their different settings, their scores, and whether the scores "
        "differ by more than chance (McNemar's test and a paired bootstrap for single runs, a "
        "paired t-test over seeds for folders of train --seeds).",
        "runs/001 runs/002",
        _compare,
    ),
    "predict": Command(
        "predict classes, entities, answers or choices",
        "Predicts with a fine-tuned model: the class of each text with its probability, the tags "
        "or entities in it, the answer to a question (--pair CONTEXT), or the best of two or more "
        "choices (--choice TEXT --choice TEXT).",
        'runs/001 "what a lovely day"',
        _predict,
    ),
    "fill-mask": Command(
        "predict the words behind [MASK]",
        "Prints the most probable pieces for each [MASK] in a text. The model needs a masked-LM "
        "head.",
        'minibert-small "The acting was [MASK]."',
        _fill_mask,
    ),
    "embed": Command(
        "compute a vector for each text",
        "Prints or writes one vector per text. For a sentence-transformers model, pooling and "
        "scaling are those of its modules.json.",
        "minibert-small --file texts.txt --output vectors.npy",
        _embed,
    ),
    "weights": Command(
        "list every tensor of a checkpoint",
        "Prints every tensor of a checkpoint with its official name, its name here, shape and "
        "dtype, what was left out and why, and parameter counts by part.",
        "bert-base-uncased",
        _weights,
    ),
    "tokenize": Command(
        "show a text as the model reads it",
        "Prints each piece of a text with its id and its place in the text.",
        'minibert-small "What a lovely day!"',
        _tokenize,
    ),
    "vocabulary": Command(
        "train a WordPiece vocabulary on plain text",
        "Trains a WordPiece vocabulary, saves it as a tokenizer that minibert and transformers "
        "can open, and measures it on sentences that it was not trained on: pieces per word and "
        "share of [UNK].",
        "texts.txt --size 8000 --output my-vocabulary",
        _vocabulary,
    ),
}


# --- options of several commands ----------------------------------------------------------------


def _add_texts(parser: argparse.ArgumentParser) -> None:
    # Without a default argparse would call texts required, though they may come from a file.
    parser.add_argument("text", nargs="*", default=[], help="texts (default: read --file)")
    parser.add_argument(
        "--file", metavar="FILE", help="a file with one text per line (default: standard input)"
    )


def _add_pair(parser: argparse.ArgumentParser) -> None:
    second = parser.add_mutually_exclusive_group()
    second.add_argument("--pair", metavar="TEXT", help="second text, to pair with each text")
    second.add_argument(
        "--pairs", action="store_true", help="each text is two texts, separated by a tab"
    )


def _add_batches(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="texts in a batch (default: 32)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="cut texts to N tokens (default: the limit of the model)",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line")
