"""The options of every command, and the words of --help.

Options that are settings of a run are derived from the fields of the settings; the others are
written here. Nothing here imports torch, so that --help and a wrong option answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from itertools import groupby
from typing import Any, NoReturn

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

MACHINE = ("revision", "device", "precision")

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
        known = options.parser._option_string_actions
        close = get_close_matches((wrong or rest)[0].partition("=")[0], known, n=1, cutoff=0.8)
        near = f" (did you mean {close[0]}?)" if close else ""
        options.parser.error(f"unrecognized arguments: {' '.join(wrong or rest)}{near}")
    if rest:
        options.text = [*options.text, *rest[:end], *rest[end + 1 :]]
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, as for all errors; usage would be a screenful before it."""
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minibert",
        description="A from-scratch BERT: fine-tune it, use it, look inside.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"minibert {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_data, _train, _pretrain, _recipes, _evaluate, _report, _compare):
        add(commands)
    for add in (_predict, _fill_mask, _embed, _weights, _tokenize, _vocabulary):
        add(commands)
    return parser


def _command(commands: Any, example: str, short: str, long: str, default: Any = None) -> argparse.ArgumentParser:
    """The parser of one command, which `example` calls; `default` is of options without one."""
    name = example.split()[1]
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=short, description=long, epilog=f"example: {example}", argument_default=default
    )
    parser.set_defaults(command=name, parser=parser, debug=False, quiet=False)
    _option(parser, "--debug", "show where an error came from")
    _option(parser, "--quiet", "no progress bars and messages")
    return parser


# --- the commands -------------------------------------------------------------------------------


def _data(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert data --train train.csv --test test.csv --model bert-base-uncased",
        "check labelled text before training on it",
        "Prints class counts, lengths, examples and problems, the worst first: sorted labels, a "
        "split with one class, duplicates, texts that are in two splits (leakage), texts that are "
        "cut off, unknown pieces. The exit code is 2 if a problem makes results meaningless.",
    )
    parser.add_argument("files", nargs="*", default=[], metavar="DATA", help="the training data first")
    for name in ("train", "validation", "test"):
        _option(parser, f"--{name} DATA", f"the {name} split")
    _option(parser, "--split NAME", "part of a folder or Hub data set, for DATA")
    _settings(parser, READING)
    _option(parser, "--model MODEL", "count tokens of this model (default: count words)")
    _settings(parser, ["revision"])
    _option(parser, "--max-length N", "limit in tokens (default: the model's)")
    _json(parser)


def _train(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert train --model bert-base-uncased --train train.csv --test test.csv",
        "fine-tune a model on labelled text",
        "Fine-tunes a pre-trained model on labelled text: a table of texts or pairs of texts "
        "(csv, tsv, jsonl, parquet), a folder like aclImdb, tagged sentences (.conll, or lists of "
        "words), questions with answers (.json in SQuAD's format), or texts with choices "
        "(--choices). Writes a run folder with the model, its scores and every example with its "
        "loss. Without --model and --train it trains minibert-small on sample reviews.",
        default=argparse.SUPPRESS,  # an option that is not given leaves its value to a recipe
    )
    _run(parser, Settings)
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N runs that differ only in their seed, from --seed on, and print mean and "
        "spread of their scores; finished ones are not repeated",
    )


def _pretrain(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert pretrain --corpus installed-docs",
        "pre-train a BERT on plain text",
        "Pre-trains a model on plain text by masked language modelling and next-sentence "
        "prediction: a freshly initialised model with a vocabulary of its own, or an existing one "
        "(--model), to adapt it to a domain. Writes a run folder with the model and its scores on "
        "documents that it was not trained on.",
        default=argparse.SUPPRESS,
    )
    _run(parser, PretrainSettings)


def _recipes(commands: Any) -> None:
    _command(
        commands,
        "minibert recipes",
        "list the settings that --recipe can start from",
        "Lists the recipes for minibert train --recipe NAME and minibert pretrain --recipe NAME: "
        "what each is, the score of the tutorial that it repeats, and the mistakes of that "
        "tutorial, which --fault brings back.",
    )


def _evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert evaluate runs/001 test.csv",
        "measure a fine-tuned model on labelled text",
        "Prints the scores of a fine-tuned model on labelled text, with 95% intervals.",
    )
    _model(parser)
    parser.add_argument("data", help="labelled text, with labels that the model knows")
    _settings(parser, [key for key in READING if key != "problem_type"])
    _option(parser, "--split NAME", "part of a folder or Hub data set", "test")
    _option(parser, "--output FOLDER", "also write metrics.json, errors.csv and others there")
    _batches(parser)
    _settings(parser, ["overlap", *MACHINE])
    _json(parser)


def _report(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert report runs/001",
        "make an HTML page about a run",
        "Writes one HTML page about a finished run, which needs no network and no other file: "
        "scores beside baselines, learning curves, confusion, calibration, and every example to "
        "search and filter. Writes the charts as pictures into the run folder, too. Needs "
        "matplotlib: pip install 'minibert[plots]'.",
    )
    parser.add_argument("run", help="run folder")
    _option(parser, "--output FILE", "the page (default: RUN/report.html)")
    parser.add_argument(
        "--features",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the model on up to 2,000 texts to draw its features (default: %(default)s)",
    )


def _compare(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert compare runs/001 runs/002",
        "compare runs and test whether they differ",
        "Prints runs side by side: their different settings, their scores, and whether the scores "
        "differ by more than chance (McNemar's test and a paired bootstrap for single runs, a "
        "paired t-test over seeds for folders of train --seeds).",
    )
    parser.add_argument("run", nargs="+", help="run folders, or folders of train --seeds")
    _option(parser, "--examples N", "examples to show that only one of the runs gets right", 5)
    _json(parser)


def _predict(commands: Any) -> None:
    parser = _command(
        commands,
        'minibert predict runs/001 "what a lovely day"',
        "predict classes, entities, answers or choices",
        "Predicts with a fine-tuned model: the class of each text with its probability, the tags "
        "or entities in it, the answer to a question (--pair CONTEXT), or the best of two or more "
        "choices (--choice TEXT --choice TEXT).",
    )
    _model(parser)
    _texts(parser)
    _pair(parser)
    choice = "a text to choose from; give it twice or more"
    _option(parser, "--choice TEXT", choice, dest="choices", action="append")
    _option(parser, "--top N", "answers to print for a question, of the 20 best of each window", 1)
    _option(parser, "--allow-no-answer", "a question may have no answer, as in SQuAD 2.0")
    _option(parser, "--allow-untrained", "predict with an untrained head; its answers are noise")
    _batches(parser)
    _settings(parser, ["overlap", *MACHINE])
    _json(parser)


def _fill_mask(commands: Any) -> None:
    parser = _command(
        commands,
        'minibert fill-mask minibert-small "The acting was [MASK]."',
        "predict the words behind [MASK]",
        "Prints the most probable pieces for each [MASK] in a text. The model needs a masked-LM head.",
    )
    _model(parser)
    _texts(parser)
    _option(parser, "--top N", "pieces to print for each [MASK]", 5)
    _settings(parser, ["revision", "device"])
    _json(parser)


def _embed(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert embed minibert-small --file texts.txt --output vectors.npy",
        "compute a vector for each text",
        "Prints or writes one vector per text. For a sentence-transformers model, pooling and "
        "scaling are those of its modules.json.",
    )
    _model(parser)
    _texts(parser)
    _option(parser, "--output FILE", "write all vectors to a .npy file")
    parser.add_argument("--pooling", choices=POOLINGS, help="default: as in the model's modules.json, else mean")
    _settings(parser, ["layer"])
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1 (default: as in modules.json, else no)",
    )
    _batches(parser)
    _settings(parser, MACHINE, precision="fp32")
    _json(parser)


def _weights(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert weights bert-base-uncased",
        "list every tensor of a checkpoint",
        "Prints every tensor of a checkpoint with its official name, its name here, shape and "
        "dtype, what was left out and why, and parameter counts by part.",
    )
    _model(parser, nargs="?")
    _settings(parser, ["revision"])
    parser.add_argument(
        "--verify",
        nargs="*",
        metavar="ID",
        help="instead: download official checkpoints (all, or these) and compare their hashes "
        "with the table that ships with minibert",
    )
    _json(parser)


def _tokenize(commands: Any) -> None:
    parser = _command(
        commands,
        'minibert tokenize minibert-small "What a lovely day!"',
        "show a text as the model reads it",
        "Prints each piece of a text with its id and its place in the text.",
    )
    _model(parser)
    _texts(parser)
    _pair(parser)
    _settings(parser, ["revision"])
    _json(parser)


def _vocabulary(commands: Any) -> None:
    parser = _command(
        commands,
        "minibert vocabulary texts.txt --size 8000 --output my-vocabulary",
        "train a WordPiece vocabulary on plain text",
        "Trains a WordPiece vocabulary, saves it as a tokenizer that minibert and transformers "
        "can open, and measures it on sentences that it was not trained on: pieces per word and "
        "share of [UNK].",
    )
    corpus = next(item for item in fields(PretrainSettings) if item.name == "corpus")
    parser.add_argument("source", nargs="+", help=corpus.metadata["help"])
    _option(parser, "--output FOLDER", "where to save the tokenizer", required=True)
    _option(parser, "--size N", "number of pieces, with special tokens", 8000)
    _option(parser, "--cased", "keep capitals and accents")
    _option(parser, "--column KEY", "key of the text in .jsonl files", "text")


# --- settings as options ------------------------------------------------------------------------


def _run(parser: argparse.ArgumentParser, kind: type[Settings] | type[PretrainSettings]) -> None:
    """All settings of a run, by group, and --resume."""
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="continue a run that was stopped, from its last checkpoint, or from the one named (RUN/state/step-N)",
    )
    order = list(GROUPS)
    settings = sorted(fields(kind), key=lambda item: order.index(item.metadata["group"]))
    for name, items in groupby(settings, key=lambda item: item.metadata["group"]):
        group = parser.add_argument_group(GROUPS[name]) if name else parser
        for item in items:
            _setting(group, item, item.default, argparse.SUPPRESS)


def _settings(parser: argparse.ArgumentParser, keys: Sequence[str], **defaults: Any) -> None:
    """Some settings of fine-tuning, for a command that reads data or runs a model as it does."""
    for item in fields(Settings):
        if item.name in keys:
            default = defaults.get(item.name, item.default)
            _setting(parser, item, default, default)


def _setting(place: Any, item: Field[Any], shown: Any, default: Any) -> None:
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


# --- options of several commands ----------------------------------------------------------------


def _model(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("model", nargs=nargs, help="model folder, run folder, minibert-small or Hub id")


def _texts(parser: argparse.ArgumentParser) -> None:
    # Without a default argparse would call texts required, though they may come from a file.
    parser.add_argument("text", nargs="*", default=[], help="texts (default: read --file)")
    _option(parser, "--file FILE", "one text per line (default: standard input)")


def _pair(parser: argparse.ArgumentParser) -> None:
    second = parser.add_mutually_exclusive_group()
    _option(second, "--pair TEXT", "second text, to pair with each text")
    _option(second, "--pairs", "each text is two texts, separated by a tab")


def _batches(parser: argparse.ArgumentParser) -> None:
    _option(parser, "--batch-size N", "texts in a batch", 32)
    _option(parser, "--max-length N", "cut texts to N tokens (default: the model's limit)")


def _json(parser: argparse.ArgumentParser) -> None:
    _option(parser, "--json", "print JSON, one object per line")


def _option(parser: Any, usage: str, help: str, default: str | int | None = None, **more: Any) -> None:
    """An option as usage writes it: "--json" is a switch, "--top N" takes a whole number, and any
    other, such as "--file FILE", a string."""
    name, _, metavar = usage.partition(" ")
    if not metavar:
        parser.add_argument(name, action="store_true", help=help)
        return
    help += "" if default is None else f" (default: {default})"
    kind = int if metavar == "N" else None
    parser.add_argument(name, metavar=metavar, type=kind, default=default, help=help, **more)
