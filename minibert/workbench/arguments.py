"""The options of every command, and the words of --help.

Options that are settings of a run are derived from the fields of the settings; the others are
written here, in the table at the end. Nothing here imports torch, so that --help and a wrong option
answer at once.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from functools import partial
from itertools import groupby
from typing import Any, NoReturn

from minibert.io.version import __version__
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import (
    POOLINGS,
    READING,
    Settings,
    TrainingSettings,
    broken_rule,
    is_list,
    type_of,
)

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
    if wrong or (rest and not hasattr(options, "texts")):
        known = options.parser._option_string_actions
        close = get_close_matches((wrong or rest)[0].partition("=")[0], known, n=1, cutoff=0.8)
        near = f" (did you mean {close[0]}?)" if close else ""
        options.parser.error(f"unrecognized arguments: {' '.join(wrong or rest)}{near}")
    if rest:
        options.texts = [*options.texts, *rest[:end], *rest[end + 1 :]]
    return options


def command_line(kind: type[TrainingSettings], values: Mapping[str, Any]) -> str:
    """The command with these settings as a shell takes it, an option on each line."""
    known = {item.name: item for item in fields(kind)}
    chosen = [_option_with(known[key], value) for key, value in values.items()]
    return " \\\n    ".join([f"minibert {kind.command}", *filter(None, chosen)])


def _option_with(item: Field[Any], value: Any) -> str:
    name = _name_of(item)
    if type_of(item) == "bool":
        return name if value else "" if item.type == "bool" else f"--no-{name.removeprefix('--')}"
    words = [shlex.quote(_written(word)) for word in (value if isinstance(value, (list, tuple)) else [value])]
    if is_list(item) and item.metadata["rule"]:
        return " ".join(f"{name} {word}" for word in words)
    return " ".join([name, *words])


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
    for add in _COMMANDS:
        add(commands)
    return parser


# --- what adds arguments to a parser ------------------------------------------------------------

_Add = Callable[[Any], object]


def _command(example: str, short: str, long: str, *arguments: _Add, default: Any = None) -> _Add:
    """A command, named by a call of it; `default` is of options without one."""

    def add(commands: Any) -> None:
        name, epilog = example.split()[1], f"example: {example}"
        parser = commands.add_parser(name, help=short, description=long, epilog=epilog, argument_default=default)
        parser.set_defaults(command=name, parser=parser, debug=False, quiet=False)
        for argument in (_DEBUG, _QUIET, *arguments):
            argument(parser)

    return add


def _argument(name: str, **how: Any) -> _Add:
    return lambda parser: parser.add_argument(name, **how)


def _option(usage: str, help: str, default: str | int | None = None, **more: Any) -> _Add:
    """An option as usage writes it: "--json" is a switch, "--top N" takes a whole number, and any
    other, such as "--file FILE", a string."""
    name, _, metavar = usage.partition(" ")
    if not metavar:
        return _argument(name, action="store_true", help=help)
    help += "" if default is None else f" (default: {default})"
    return _argument(name, metavar=metavar, type=int if metavar == "N" else None, default=default, help=help, **more)


def _settings(*keys: str, **defaults: Any) -> _Add:
    """Some settings of fine-tuning, for a command that reads data or runs a model as it does."""

    def add(parser: Any) -> None:
        for item in fields(Settings):
            if item.name in keys:
                default = defaults.get(item.name, item.default)
                _setting(parser, item, default, default)

    return add


def _run(kind: type[Settings] | type[PretrainSettings], parser: argparse.ArgumentParser) -> None:
    """All settings of a run, by group, and --resume."""
    resume = "continue a run that was stopped, from its last checkpoint, or from the one named (RUN/state/step-N)"
    parser.add_argument("--resume", metavar="RUN", help=resume)
    order = list(GROUPS)
    settings = sorted(fields(kind), key=lambda item: order.index(item.metadata["group"]))
    for name, items in groupby(settings, key=lambda item: item.metadata["group"]):
        group = parser.add_argument_group(GROUPS[name]) if name else parser
        for item in items:
            _setting(group, item, item.default, argparse.SUPPRESS)


def _setting(place: Any, item: Field[Any], shown: Any, default: Any) -> None:
    """The option of one setting; --help shows `shown` as its default."""
    rule, kind = item.metadata["rule"], type_of(item)
    how: dict[str, Any] = {"dest": item.name, "default": default, "help": item.metadata["help"]}
    if shown is not False and shown not in (None, (), MISSING):
        how["help"] += f" (default: {_written(shown)})"
    option = _name_of(item)
    if kind == "bool":
        switch = "store_true" if item.type == "bool" else argparse.BooleanOptionalAction
        place.add_argument(option, action=switch, **how)
        return
    how["choices"] = None if rule is None else rule.choices
    if how["choices"] is None or is_list(item):
        how["metavar"] = {"int": "N", "float": "X"}.get(kind, item.metadata["metavar"])
    if is_list(item) and how["choices"]:
        how["action"] = "append"
    elif is_list(item):
        how["nargs"] = "+"
        how["action"] = _OneOrSeveral if item.type == "str | Sequence[str]" else None
    place.add_argument(option, type=_number(item) if kind in ("int", "float") else None, **how)


class _OneOrSeveral(argparse.Action):
    """A value that stands alone is not a list of one."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, values if len(values) > 1 else values[0])


def _name_of(item: Field[Any]) -> str:
    """--layer-decay; one that is repeated has the name of one item, --fault."""
    name = "--" + item.name.replace("_", "-")
    return name.removesuffix("s") if is_list(item) and item.metadata["rule"] else name


def _number(item: Field[Any]) -> Callable[[str], float]:
    """What reads a number of the command line, and refuses one that its setting cannot have."""
    kind = {"int": int, "float": float}[type_of(item)]

    def read(text: str) -> float:
        value: float = kind(text)
        wanted = broken_rule(item, value)
        if wanted is not None:
            raise argparse.ArgumentTypeError(f"it must be {wanted}, not {text}")
        return value

    read.__name__ = kind.__name__  # argparse says "invalid int value"
    return read


def _written(value: Any) -> str:
    short = f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def _pair(parser: argparse.ArgumentParser) -> None:
    second = parser.add_mutually_exclusive_group()
    _option("--pair TEXT", "second text, to pair with each text; of a table its column")(second)
    _option("--pairs", "each text is two texts, separated by a tab")(second)


def _case(parser: argparse.ArgumentParser) -> None:
    """Whether text is lower-cased, by the name that the official models have for it."""
    case = parser.add_mutually_exclusive_group()
    said = "(default: what the config says, else the name, else the vocabulary)"
    _option("--cased", f"keep capitals and accents {said}")(case)
    _option("--uncased", "lower-case text and strip accents")(case)


_DEBUG = _option("--debug", "show where an error came from")
_QUIET = _option("--quiet", "no progress bars and messages")
_JSON = _option("--json", "print JSON, one object per line")
_MODEL_HELP = "model folder, run folder, minibert-small or Hub id"
_MODEL = _argument("model", help=_MODEL_HELP)
_TEXTS = (
    # Without a default argparse would call texts required, though they may come from a file.
    _argument("texts", nargs="*", default=[], metavar="text", help="texts (default: read --file)"),
    _option(
        "--file FILE",
        "a text on each line, or a table (.csv, .tsv, .jsonl, .parquet), one on each row (default: standard input)",
    ),
    _settings("format", "sep", "names", "quoting", "encoding"),
    _option("--text COLUMN", "column of a table with the text (default: that of the run, or one of a usual name)"),
)
_RESULTS = _option("--output FILE", "write a table (.csv, .tsv, .jsonl, .parquet): the input, with results beside it")
_BATCHES = (
    _option("--batch-size N", "texts in a batch", 32),
    _option("--max-length N", "cut texts to N tokens (default: the model's limit)"),
)
_SPLIT = "part of a folder or Hub data set"
_CORPUS = next(item for item in fields(PretrainSettings) if item.name == "corpus")
_SWITCH = argparse.BooleanOptionalAction

# --- the commands -------------------------------------------------------------------------------

_COMMANDS = (
    _command(
        "minibert data --train train.csv --test test.csv --model bert-base-uncased",
        "check labelled text before training on it",
        "Prints class counts, lengths, examples and problems, the worst first: sorted labels, a split with one class, "
        "duplicates, texts that are in two splits (leakage), texts that are cut off, unknown pieces. The exit code is "
        "2 if a problem makes results meaningless.",
        _argument("files", nargs="*", default=[], metavar="DATA", help="the training data first"),
        *(_option(f"--{name} DATA", f"the {name} split") for name in ("train", "validation", "test")),
        _option("--split NAME", f"{_SPLIT}, for DATA"),
        _settings(*(key for key in READING if key != "part")),
        _option("--model MODEL", "count tokens of this model (default: count words)"),
        _settings("revision"),
        _option("--max-length N", "limit in tokens (default: the model's)"),
        _JSON,
    ),
    _command(
        "minibert train --model bert-base-uncased --train train.csv --test test.csv",
        "fine-tune a model on labelled text",
        "Fine-tunes a pre-trained model on labelled text: a table of texts or pairs of texts (csv, tsv, jsonl, "
        "parquet), a folder like aclImdb, tagged sentences (.conll, or lists of words), questions with answers (.json "
        "in SQuAD's format), or texts with choices (--choices). Writes a run folder with the model, its scores and "
        "every example with its loss. Without --model and --train it trains minibert-small on sample reviews.",
        partial(_run, Settings),
        _argument(
            "--seeds",
            type=int,
            metavar="N",
            help="train N runs that differ only in their seed, from --seed on, and print mean and spread of their "
            "scores; finished ones are not repeated",
        ),
        default=argparse.SUPPRESS,  # an option that is not given leaves its value to a recipe
    ),
    _command(
        "minibert pretrain --corpus installed-docs",
        "pre-train a BERT on plain text",
        "Pre-trains a model on plain text by masked language modelling and next-sentence prediction: a freshly "
        "initialised model with a vocabulary of its own, or an existing one (--model), to adapt it to a domain. "
        "Writes a run folder with the model and its scores on documents that it was not trained on.",
        partial(_run, PretrainSettings),
        default=argparse.SUPPRESS,
    ),
    _command(
        "minibert recipes imdb-finetune",
        "list the settings that --recipe can start from, or print one as a command",
        "Lists the recipes for minibert train --recipe NAME and minibert pretrain --recipe NAME: what each is, the "
        "score of the published example that it repeats, and the mistakes of that example, which --fault brings back. "
        "With a name, prints the command that the recipe stands for, to copy and change.",
        _argument("name", nargs="?", help="a recipe, or a .toml file (default: list all)"),
    ),
    _command(
        "minibert evaluate runs/001 test.csv",
        "measure a fine-tuned model on labelled text",
        "Prints the scores of a fine-tuned model on labelled text, with 95% intervals. Columns that are not named are "
        "those that the run was trained on.",
        _MODEL,
        _argument("data", help="labelled text, with labels that the model knows"),
        _settings(
            *(key for key in READING if key not in ("problem_type", "drop_bad_rows")), text=None, label=None, part=None
        ),
        _option("--split NAME", f"{_SPLIT} (default: test)"),
        _option("--output FOLDER", "also write metrics.json, errors.csv and others there"),
        *_BATCHES,
        _settings("overlap", *MACHINE, "threads"),
        _JSON,
    ),
    _command(
        "minibert report runs/001",
        "make an HTML page about a run",
        "Writes one HTML page about a finished run, which needs no network and no other file: scores beside "
        "baselines, learning curves, confusion, calibration, and every example to search and filter. Writes the "
        "charts as pictures into the run folder, too. Needs matplotlib: pip install 'minibert[plots]'.",
        _argument("run", help="run folder"),
        _option("--output FILE", "the page (default: RUN/report.html)"),
        _argument(
            "--features",
            action=_SWITCH,
            help="run the model on up to 2,000 texts to draw its features (default: where each text has one class)",
        ),
    ),
    _command(
        "minibert compare runs/001 runs/002",
        "compare runs and test whether they differ",
        "Prints runs side by side: their different settings, their scores, and whether the scores differ by more than "
        "chance (McNemar's test and a paired bootstrap for single runs, a paired t-test over seeds for folders of "
        "train --seeds).",
        _argument("run", nargs="+", help="run folders, or folders of train --seeds"),
        _option("--examples N", "examples to show that only one of two single runs gets right (default: 5)"),
        _JSON,
    ),
    _command(
        'minibert predict runs/001 "what a lovely day"',
        "predict classes, entities, answers or choices",
        "Predicts with a fine-tuned model: the class of each text with its probability, the tags or entities in it, "
        "the answer to a question (--pair CONTEXT), or the best of two or more choices (--choice TEXT --choice TEXT). "
        "Of a table it reads a column and keeps the others: --file reviews.csv --output predictions.csv.",
        _MODEL,
        *_TEXTS,
        _pair,
        _option("--choice TEXT", "a text to choose from; give it twice or more", action="append"),
        _settings("choices"),
        _RESULTS,
        _option("--top N", "answers to print for a question, of the 20 best of each window", 1),
        _option("--allow-no-answer", "a question may have no answer, as in SQuAD 2.0"),
        _option("--allow-untrained", "predict with an untrained head; its answers are noise"),
        *_BATCHES,
        _settings("overlap", *MACHINE, "threads"),
        _JSON,
    ),
    _command(
        'minibert fill-mask minibert-small "The acting was [MASK]."',
        "predict the words behind [MASK]",
        "Prints the most probable pieces for each [MASK] in a text. The model needs a masked-LM head.",
        _MODEL,
        *_TEXTS,
        _RESULTS,
        _option("--top N", "pieces to print for each [MASK]", 5),
        _settings("revision", "device", "threads"),
        _JSON,
    ),
    _command(
        "minibert embed minibert-small --file texts.txt --output vectors.npy",
        "compute a vector for each text",
        "Prints or writes one vector per text. For a sentence-transformers model, pooling and scaling are those of "
        "its modules.json.",
        _MODEL,
        *_TEXTS,
        _option("--output FILE", "write all vectors to a .npy file, or to a table (.csv, .tsv, .jsonl, .parquet)"),
        _argument("--pooling", choices=POOLINGS, help="default: as in the model's modules.json, else mean"),
        _settings("layer"),
        _option("--prompt NAME", "a prompt of the model, put before each text (default: the model's default, if any)"),
        _argument(
            "--normalize", action=_SWITCH, help="scale vectors to length 1 (default: as in modules.json, else no)"
        ),
        *_BATCHES,
        _settings(*MACHINE, "threads", precision="fp32"),
        _JSON,
    ),
    _command(
        'minibert explain minibert-small "A great [MASK]." --output page.html',
        "make a page that shows a sentence going through a model",
        "Writes one HTML file with the numbers of this sentence in this model: pieces, embeddings, every head's query, "
        "key, value and pattern, sums and norms, what each layer would answer, and which parts made the answer.",
        _MODEL,
        _argument("text", help="the sentence; [MASK] stands for a missing word"),
        _option("--pair TEXT", "the second text, for a model of pairs"),
        _option("--compare TEXT", "another sentence, to switch to at every step"),
        _option("--output FILE", "the page (default page.html)", "page.html"),
        _settings("revision"),
    ),
    _command(
        "minibert probe minibert-small --train train.csv --test test.csv",
        "find the layers that know the labels of a text, or of its words",
        "Trains a small classifier on every layer of the frozen model, for each text or tagged word, and prints its "
        "accuracy with 95% intervals beside what puts it into proportion: random labels (selectivity), the bits that "
        "the labels take (description length), the majority class, and word embeddings alone.",
        _MODEL,
        _option("--train DATA", "file, folder, Hub data set or samples, as for train", required=True),
        _option("--test DATA", "to measure the probes on", required=True),
        _settings(*(key for key in READING if key not in ("part", "problem_type", "choices", "label_sep"))),
        _option("--hidden N", "units in the hidden layer of a probe; 0: a linear probe", 0),
        _option("--seed N", "for control labels, portions and hidden layers", 0),
        _option("--max-length N", "cut texts to N tokens (default: the model's limit)"),
        _option("--output FOLDER", "also write probes.csv and probes.png there; needs matplotlib"),
        _settings("revision", "device", "threads"),
        _JSON,
    ),
    _command(
        "minibert doctor my_bert.py",
        "find the mistake in a BERT of your own",
        "Runs a file that defines build(config, tensors), which takes tiny weights with official names and returns a "
        "function from ids, mask and segments, (B, S) each, to hidden states (B, S, D). Says that they are BERT's, or "
        "which of the classic mistakes gives them, or where they depart. The exit code is 0 or 1.",
        _argument("file", help="a Python file; it is run"),
        _JSON,
    ),
    _command(
        "minibert weights bert-base-uncased",
        "list every tensor of a checkpoint, or compare two",
        "Prints every tensor of a checkpoint with its official name, its name here, shape and dtype, what was left "
        "out and why, and parameter counts by part. `minibert weights diff A B` prints what differs between two: how "
        "far each tensor and head moved, in how many directions, and with --file how alike the hidden states are.",
        _argument("model", nargs="*", help=_MODEL_HELP + "; or the word diff and two models"),
        _option("--file FILE", "with diff: texts, one a line, to compare hidden states on"),
        _settings("revision"),
        _argument(
            "--verify",
            nargs="*",
            metavar="ID",
            help="instead: download official checkpoints (all, or these) and compare their hashes "
            "with the table that ships with minibert",
        ),
        _JSON,
    ),
    _command(
        'minibert tokenize minibert-small "What a lovely day!"',
        "show a text as the model reads it",
        "Prints each piece of a text with its id and its place in the text.",
        _MODEL,
        *_TEXTS,
        _pair,
        _settings("revision"),
        _JSON,
    ),
    _command(
        "minibert vocabulary texts.txt --size 8000 --output my-vocabulary",
        "train a WordPiece vocabulary on plain text",
        "Trains a WordPiece vocabulary, saves it as a tokenizer that minibert and transformers can open, and measures "
        "it on sentences that it was not trained on: pieces per word and share of [UNK].",
        _argument("source", nargs="+", help=_CORPUS.metadata["help"]),
        _option("--output FOLDER", "where to save the tokenizer", required=True),
        _option("--size N", "number of pieces, with special tokens", 8000),
        _option("--cased", "keep capitals and accents"),
        _option("--column COLUMN", "column of the text in tables", "text"),
    ),
    _command(
        "minibert convert multi_cased_L-12_H-768_A-12.zip multi_cased",
        "make a model folder of a TensorFlow checkpoint",
        "Reads a checkpoint as BERT was published in, without TensorFlow, and writes a folder that minibert and "
        "transformers open. The heads of pre-training are kept, and the state of the optimizer is left out.",
        _argument("source", help="zip archive, its folder, or the prefix of a checkpoint, such as X/bert_model.ckpt"),
        _argument("output", metavar="FOLDER", help="folder to write"),
        _case,
    ),
)
