"""The arguments of every command, and the words of --help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from minibert.io.version import __version__
from minibert.optim import SCHEDULES
from minibert.workbench.kinds import KINDS
from minibert.workbench.runs.pretrain_settings import (
    HEADS,
    HIDDEN_SIZE,
    LAYERS,
    OBJECTIVES,
    VOCABULARY_SIZE,
)
from minibert.workbench.runs.settings import POOLINGS, PROBES, TAG_SCHEMES
from minibert.workbench.tasks.faults import FAULTS

EXAMPLES = """\
examples:
  minibert train
      fine-tune the model that ships with minibert on its sample reviews: no download
  minibert data --train train.csv --test test.csv --model MODEL
      look at labelled text first: classes, lengths, duplicates, texts that two files share
  minibert train --model MODEL --train train.csv --test test.csv
      fine-tune on a table with the columns text and label; a run folder in runs/ is the result
  minibert train --recipe emotion-finetune --model MODEL
      what a tutorial did, with any option in place of its own (minibert recipes lists them)
  minibert train --resume runs/001
      go on with a run that was stopped
  minibert pretrain --corpus installed-docs
      a BERT from nothing, on text that is on this machine already
  minibert predict runs/001 "what a lovely day"
      use it
  minibert predict RUN "When was it built?" --pair "The tower was built in 1889."
      a model that was trained on questions (train.json, as in SQuAD)
  minibert report runs/001
      one HTML page: scores, curves, confusion, calibration, every example to browse
  minibert evaluate runs/001 other.csv
      measure it on other labelled text
  minibert compare runs/001 runs/002
      is the difference more than chance?
  minibert fill-mask minibert-small "The acting was [MASK]."
      the likeliest words, by the model that ships with minibert
  minibert embed MODEL --file texts.txt --output vectors.npy
  minibert weights MODEL
      every tensor of a checkpoint: official name, name here, shape
  minibert vocabulary texts.txt --size 8000 --output FOLDER
      a vocabulary of your own, from plain text (or from installed-docs)
  minibert tokenize MODEL "Tokenizing text is a core task of NLP."

MODEL is a folder, a run folder, minibert-small (the model that ships with minibert), or the id of a
model on the Hub (bert-base-uncased).
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of one command.

    argparse takes no more texts after an option that follows the model, as in
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
    _add_data(commands)
    _add_train(commands)
    _add_pretrain(commands)
    _add_recipes(commands)
    _add_evaluate(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_predict(commands)
    _add_fill_mask(commands)
    _add_embed(commands)
    _add_weights(commands)
    _add_tokenize(commands)
    _add_vocabulary(commands)
    return parser


def _add_data(commands: Any) -> None:
    parser = _command(
        commands,
        "data",
        "what labelled text holds, and what is wrong with it",
        "Prints class counts, lengths, a few examples, and findings, the worst first: sorted "
        "labels, a split of one class, duplicates, texts that two splits share, texts that are cut "
        "off, unknown pieces. The exit code is 2 if one of them makes a result meaningless.",
    )
    parser.add_argument(
        "files", nargs="*", default=[], metavar="DATA", help="the first is what is trained on"
    )
    for name in ("train", "validation", "test"):
        parser.add_argument(f"--{name}", metavar="DATA", help=f"the {name} split")
    parser.add_argument(
        "--split", help="which part of a folder or Hub data set, where DATA has no option"
    )
    _add_reading(parser)
    parser.add_argument("--problem-type", choices=tuple(KINDS), help="what the labels are")
    parser.add_argument("--model", help="counts WordPieces (default: lengths are in words)")
    parser.add_argument("--revision", help="of the model: branch, tag or commit on the Hub")
    parser.add_argument(
        "--max-length", type=int, metavar="N", help="the limit (default: that of the model)"
    )
    _add_json(parser)


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        "fine-tune a model on labelled text",
        "Fine-tunes a pre-trained model on labelled text: a table of texts or pairs (csv, tsv, "
        "jsonl, parquet), a folder like aclImdb, tagged sentences (.conll, or lists of words), "
        "questions and answers (.json as in SQuAD), or texts with choices (--choices). Writes a "
        "run folder with the model, the scores, and every example by its loss. Without a model and "
        "data: minibert-small on the sample reviews, which ship with minibert.",
        argument_default=argparse.SUPPRESS,  # an option that is not given leaves no trace
    )
    parser.add_argument("--model", help="model folder, run folder or Hub id")
    _add_recipe(parser, "settings of a tutorial")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--train",
        metavar="DATA",
        help="training data: a file, a folder, a Hub data set (owner/name, owner/name:part), or "
        "samples (the reviews that ship with minibert)",
    )
    data.add_argument(
        "--validation", metavar="DATA", help="chooses the epoch; default: a share of --train"
    )
    data.add_argument("--test", metavar="DATA", help="measured once, at the end")
    data.add_argument(
        "--validation-fraction",
        type=float,
        metavar="SHARE",
        help="of --train, where there is no --validation (default 0.1, stratified; of questions a "
        "share of the contexts)",
    )
    data.add_argument(
        "--test-fraction",
        type=float,
        metavar="SHARE",
        help="of --train, put aside to be tested, where there is no --test (of questions a share "
        "of the contexts)",
    )
    data.add_argument(
        "--train-subset", type=int, metavar="N", help="train on N examples, stratified"
    )
    data.add_argument("--test-subset", type=int, metavar="N", help="test on N examples, stratified")
    _add_reading(data)
    data.add_argument(
        "--problem-type",
        choices=tuple(KINDS),
        help="what the labels are (default: as they look; "
        "whole numbers are classes unless this says regression)",
    )
    data.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="cut texts to N tokens (default: as many as the model takes); kept with the model. "
        "The context of a question is not cut, but read in windows",
    )
    _add_overlap(data)
    data.add_argument(
        "--allow-data-faults",
        action="store_true",
        help="train even where the data have a fault that makes the result meaningless "
        "(see minibert data)",
    )
    how = parser.add_argument_group("training")
    _add_optimizer(how, epochs=3, batch="default 32", rate="default 5e-5; small models like 1e-4")
    how.add_argument(
        "--patience", type=int, metavar="N", help="stop after N epochs without a gain on validation"
    )
    how.add_argument(
        "--watch",
        metavar="METRIC",
        help="the validation metric that chooses the epoch (default: accuracy, "
        "micro_f1, pearson, entity_f1 or f1, as the task is)",
    )
    how.add_argument("--freeze", action="store_true", help="train the head alone")
    how.add_argument(
        "--freeze-layers",
        type=int,
        metavar="N",
        help="keep the embeddings and the N lowest layers as they were (default 0)",
    )
    how.add_argument(
        "--layer-decay",
        type=float,
        metavar="RATE",
        help="learning rate of a layer over that of the layer above it (default 1: all alike)",
    )
    how.add_argument(
        "--class-weights",
        action="store_true",
        help="weigh each class in the loss by the inverse of its share",
    )
    how.add_argument(
        "--balanced",
        action="store_true",
        help="draw every class equally often, rare examples several times",
    )
    how.add_argument(
        "--data-seed",
        type=int,
        metavar="N",
        help="draws subsets and the validation split (default: as --seed)",
    )
    how.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N runs that differ in nothing but the seed, from --seed on, and give the mean "
        "and spread of their scores; one that is finished is not trained again",
    )
    how.add_argument(
        "--fault",
        dest="faults",
        action="append",
        choices=tuple(FAULTS),
        metavar="NAME",
        help="a mistake to make on purpose, to measure what it costs (several times for several): "
        + "; ".join(f"{name}: {what}" for name, what in FAULTS.items()),
    )
    probe = parser.add_argument_group("probe", "instead of fine-tuning")
    probe.add_argument(
        "--probe",
        choices=PROBES,
        help="keep the model frozen and train on its features alone: a linear layer as above, or "
        "logistic regression to its minimum; features are cached",
    )
    probe.add_argument(
        "--layer", type=int, metavar="N", help="0 the embeddings, -1 the last layer (default -1)"
    )
    probe.add_argument("--pooling", choices=POOLINGS, help="of a text's rows (default cls)")
    _add_where(parser)


def _add_pretrain(commands: Any) -> None:
    parser = _command(
        commands,
        "pretrain",
        "make a BERT of plain text, or go on with one",
        "Pre-trains a model on plain text: tokens are hidden and predicted, and of two texts it is "
        "told whether the second follows the first. The model is drawn anew, with a vocabulary "
        "made of the text, or goes on from --model, to adapt it to a domain. Writes a run folder "
        "with the model and its scores on documents that were held out.",
        argument_default=argparse.SUPPRESS,
    )
    _add_recipe(parser, "settings that come with the package, such as minibert-small")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--corpus",
        nargs="+",
        metavar="TEXT",
        help="text files (.txt: one document; .jsonl: one a line; both may end in .gz), folders of "
        "them, or installed-docs: the docstrings of Python, numpy and torch on this machine",
    )
    data.add_argument(
        "--validation",
        nargs="+",
        metavar="TEXT",
        help="the same, to measure on; default: documents of --corpus that are held out",
    )
    data.add_argument(
        "--validation-fraction",
        type=float,
        metavar="SHARE",
        help="of the documents, held out where there is no --validation (default 0.02)",
    )
    data.add_argument("--column", metavar="KEY", help="of the text in .jsonl files (default text)")
    data.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of a row (default 128), packed full; a model drawn anew learns sooner in rows "
        "of 64, and goes on in long ones (see the README)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", help="go on from this model (folder, run folder or Hub id) and its vocabulary"
    )
    model.add_argument(
        "--vocabulary", metavar="MODEL", help="take the vocabulary of this model, not its weights"
    )
    model.add_argument(
        "--vocabulary-size",
        type=int,
        metavar="N",
        help=f"pieces of a vocabulary that is made of the text (default {VOCABULARY_SIZE})",
    )
    model.add_argument("--cased", action="store_true", help="of that vocabulary: keep capitals")
    model.add_argument("--layers", type=int, metavar="L", help=f"default {LAYERS}")
    model.add_argument("--hidden-size", type=int, metavar="D", help=f"default {HIDDEN_SIZE}")
    model.add_argument("--heads", type=int, metavar="N", help=f"default {HEADS}")
    model.add_argument("--intermediate-size", type=int, metavar="F", help="default 4 * D")
    model.add_argument(
        "--max-positions",
        type=int,
        metavar="N",
        help="the longest text that the model takes (default: --max-length; positions beyond "
        "that are not trained); with --model, more than it has: they begin as copies of those",
    )
    model.add_argument("--dropout", type=float, metavar="RATE", help="default 0.1")
    how = parser.add_argument_group("training")
    how.add_argument(
        "--objective",
        choices=OBJECTIVES,
        help="masked LM alone, or with next-sentence prediction (default mlm+nsp)",
    )
    how.add_argument(
        "--mask-share", type=float, metavar="SHARE", help="of the tokens, hidden (default 0.15)"
    )
    how.add_argument(
        "--whole-words", action="store_true", help="hide words with all of their pieces"
    )
    how.add_argument(
        "--epoch-share",
        type=float,
        metavar="SHARE",
        help="of the batches of each epoch, trained on (default 1); for less than one epoch, with "
        "--epochs 1",
    )
    _add_optimizer(
        how,
        epochs=3,
        batch="rows of --max-length tokens that a batch is as large as (default 32)",
        rate="default 5e-4; 5e-5 is common with --model",
    )
    _add_where(parser)


def _add_recipes(commands: Any) -> None:
    _command(
        commands,
        "recipes",
        "settings that come with minibert",
        "Lists the recipes, which `minibert train --recipe NAME` (or pretrain) follows: what each "
        "is, the score that the tutorial it repeats reports, and the tutorial's faults, which "
        "--fault puts back.",
    )


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "measure a fine-tuned model on labelled text",
        "Prints the scores of a fine-tuned model on labelled text, with 95% intervals.",
    )
    parser.add_argument("model", help="run folder, model folder or Hub id")
    parser.add_argument("data", help="labelled text, with the labels that the model knows")
    _add_reading(parser)
    parser.add_argument(
        "--split", default="test", help="part of a folder or Hub data set (default test)"
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="also write metrics.json and the tables there (errors.csv and others)",
    )
    _add_overlap(parser)
    _add_batches(parser)
    _add_machine(parser, precision="auto")
    _add_json(parser)


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        "report",
        "a run as a page to look at",
        "Writes one HTML page about a finished run, which needs no network and no other file: "
        "scores beside their baselines, curves, confusion, calibration, and every example to "
        "search and filter. With matplotlib also pictures, in the run folder.",
    )
    parser.add_argument("run", help="run folder")
    parser.add_argument("--output", metavar="FILE", help="default: RUN/report.html")
    parser.add_argument(
        "--features",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the model for a picture of its features, of up to 2,000 texts (default yes)",
    )


def _add_compare(commands: Any) -> None:
    parser = _command(
        commands,
        "compare",
        "runs side by side, with tests of their differences",
        "Prints runs side by side: what differs in their settings, their scores, and whether the "
        "differences are more than chance (McNemar's test and a paired bootstrap for single runs, "
        "a paired t-test over seeds for the folders of train --seeds).",
    )
    parser.add_argument(
        "run", nargs="+", help="two run folders or more, or those of minibert train --seeds"
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=5,
        metavar="N",
        help="that one run has right and the other wrong (default 5)",
    )
    _add_json(parser)


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands,
        "predict",
        "class of a text, entities in it, answers to questions, choices",
        "Predicts with a fine-tuned model: the class of each text and its probability, the "
        "entities or tags in it, the answer to a question (--pair CONTEXT), or the best of two or "
        "more choices (--choice TEXT --choice TEXT).",
    )
    parser.add_argument("model", help="run folder, model folder or Hub id")
    _add_texts(parser)
    _add_pair(parser)
    parser.add_argument(
        "--choice",
        dest="choices",
        action="append",
        metavar="TEXT",
        help="a text to choose from, several times for several",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="N",
        help="answers to give to a question (default 1; 20 of each window are looked at)",
    )
    parser.add_argument(
        "--allow-no-answer",
        action="store_true",
        help="let a context hold no answer (for models trained on such questions)",
    )
    parser.add_argument(
        "--allow-untrained",
        action="store_true",
        help="predict with a head that was never trained (noise)",
    )
    _add_overlap(parser)
    _add_batches(parser)
    _add_machine(parser, precision="auto")
    _add_json(parser)


def _add_fill_mask(commands: Any) -> None:
    parser = _command(
        commands,
        "fill-mask",
        "likeliest words for a [MASK]",
        "Prints the likeliest pieces for each [MASK] of a text, by a model with a masked-LM head.",
    )
    parser.add_argument(
        "model", help="model folder, run folder of pretrain, minibert-small, or Hub id"
    )
    _add_texts(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="pieces for a mask (default 5)"
    )
    _add_machine(parser, precision=None)
    _add_json(parser)


def _add_embed(commands: Any) -> None:
    parser = _command(
        commands,
        "embed",
        "a vector for each text",
        "Prints or writes one vector for each text. A sentence-transformers folder says itself how "
        "to pool and scale.",
    )
    parser.add_argument("model", help="model folder, run folder or Hub id")
    _add_texts(parser)
    parser.add_argument("--output", metavar="FILE", help="write all vectors to a .npy file")
    parser.add_argument(
        "--pooling",
        choices=("mean", "cls", "max"),
        help="default: what the model's modules.json says, else mean",
    )
    parser.add_argument(
        "--layer",
        type=int,
        default=-1,
        metavar="N",
        help="0 the embeddings, -1 the last layer (default -1)",
    )
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="scale to length 1 (default: what modules.json says, else no)",
    )
    _add_batches(parser)
    _add_machine(parser, precision="fp32")
    _add_json(parser)


def _add_weights(commands: Any) -> None:
    parser = _command(
        commands,
        "weights",
        "every tensor of a checkpoint",
        "Prints the ledger of a checkpoint: every tensor with its official name, its name here, "
        "shape and dtype, what was left out and why, and parameter counts by part.",
    )
    parser.add_argument("model", nargs="?", help="model folder, run folder or Hub id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--verify",
        nargs="*",
        metavar="ID",
        help="instead: fetch official checkpoints, all or those named, and compare them with the "
        "table that ships with minibert",
    )
    _add_json(parser)


def _add_tokenize(commands: Any) -> None:
    parser = _command(
        commands,
        "tokenize",
        "a text as the model reads it",
        "Prints each piece of a text with its id and its place in the text.",
    )
    parser.add_argument("model", help="model folder, run folder or Hub id")
    _add_texts(parser)
    _add_pair(parser)
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    _add_json(parser)


def _add_vocabulary(commands: Any) -> None:
    parser = _command(
        commands,
        "vocabulary",
        "a WordPiece vocabulary from plain text",
        "Trains a WordPiece vocabulary, saves it as a tokenizer that minibert and transformers "
        "open, and measures it on sentences kept aside: pieces to a word, share of [UNK].",
    )
    parser.add_argument(
        "source",
        nargs="+",
        help="a .txt file, a .jsonl file, a folder of these (all may be .gz), or installed-docs: "
        "the docstrings of the installed Python, numpy and torch",
    )
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="where the tokenizer goes"
    )
    parser.add_argument(
        "--size",
        type=int,
        default=8000,
        metavar="N",
        help="pieces, special tokens included (default 8000)",
    )
    parser.add_argument(
        "--cased", action="store_true", help="keep capitals and accents (default: lower-case)"
    )
    parser.add_argument(
        "--column", default="text", metavar="NAME", help="of the text in .jsonl (default text)"
    )


def _command(
    commands: Any, name: str, short: str, long: str, **options: Any
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=short, description=long, **options)
    parser.set_defaults(command=name, parser=parser)
    parser.add_argument(
        "--debug", action="store_true", default=False, help="show where an error came from"
    )
    parser.add_argument(
        "--quiet", action="store_true", default=False, help="no progress bars and messages"
    )
    return parser


def _add_recipe(parser: Any, what: str) -> None:
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"{what} (see minibert recipes), or a .toml file; every option overrides it",
    )


def _add_optimizer(how: Any, *, epochs: int, batch: str, rate: str) -> None:
    """The options of training itself, with its defaults as `help` tells them."""
    how.add_argument("--epochs", type=int, metavar="N", help=f"default {epochs}")
    how.add_argument("--batch-size", type=int, metavar="N", help=batch)
    how.add_argument(
        "--accumulate",
        type=int,
        metavar="N",
        help="batches to an update (default 1); exact, and saves memory",
    )
    how.add_argument(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help=rate,
    )
    how.add_argument(
        "--weight-decay",
        type=float,
        metavar="RATE",
        help="default 0.01; not on biases and norms",
    )
    how.add_argument("--warmup", type=float, metavar="SHARE", help="of all updates (default 0.1)")
    how.add_argument(
        "--schedule",
        choices=tuple(SCHEDULES),
        help="of the learning rate after the warm-up (default linear, down to 0; exponential: "
        "0.95 times as much from epoch to epoch)",
    )
    how.add_argument("--clip-norm", type=float, metavar="NORM", help="default 1.0")
    how.add_argument(
        "--gradient-checkpointing", action="store_true", help="less memory for a third more time"
    )
    how.add_argument(
        "--on-nonfinite",
        choices=("stop", "skip"),
        help="at a loss that is no longer finite (default stop)",
    )
    how.add_argument("--seed", type=int, metavar="N", help="default 0")


def _add_where(parser: Any) -> None:
    """The run folder, checkpoints, and the machine."""
    where = parser.add_argument_group("where")
    where.add_argument("--output", metavar="FOLDER", help="run folder (default: the next in runs/)")
    where.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run that was stopped, with its own settings; "
        "RUN/state/step-N: from that checkpoint",
    )
    where.add_argument(
        "--save-every",
        type=int,
        metavar="N",
        help="steps between two checkpoints, beside the one at each epoch's end (default 500)",
    )
    where.add_argument("--keep", type=int, metavar="N", help="checkpoints to keep (default 2)")
    _add_machine(where, precision="auto")
    where.add_argument(
        "--threads", type=int, metavar="N", help="of the CPU (default: torch's choice)"
    )


def _add_texts(parser: Any) -> None:
    # Without a default argparse would call texts required, though they may come from a file.
    parser.add_argument(
        "text", nargs="*", default=[], help="a text; without any, one a line from --file"
    )
    parser.add_argument(
        "--file", metavar="FILE", help="one text a line; - or nothing: standard input"
    )


def _add_pair(parser: Any) -> None:
    second = parser.add_mutually_exclusive_group()
    second.add_argument("--pair", metavar="TEXT", help="a second text after each, to make a pair")
    second.add_argument(
        "--pairs", action="store_true", help="each text is a pair: two texts with a tab between"
    )


def _add_reading(parser: Any) -> None:
    parser.add_argument(
        "--format",
        choices=("csv", "tsv", "jsonl", "parquet", "conll", "squad", "folder"),
        help="default: by the file's ending",
    )
    parser.add_argument("--sep", metavar="CHAR", help="what separates columns, such as ';'")
    parser.add_argument(
        "--names", nargs="+", metavar="COLUMN", help="the columns of a table without a header line"
    )
    parser.add_argument(
        "--quoting",
        action=argparse.BooleanOptionalAction,
        default=_default(parser, None),
        help="whether '\"' quotes (default: in .csv files)",
    )
    parser.add_argument(
        "--text", default=_default(parser, "text"), metavar="COLUMN", help="default text"
    )
    parser.add_argument("--text-pair", metavar="COLUMN", help="the second text of a pair")
    parser.add_argument(
        "--label", default=_default(parser, "label"), metavar="COLUMN", help="default label"
    )
    parser.add_argument(
        "--choices",
        nargs="+",
        metavar="COLUMN",
        help="texts to choose from: a column with a list of them, or a column for each; the label "
        "is the place of the right one, from 0, or its text",
    )
    parser.add_argument(
        "--tag-scheme",
        choices=TAG_SCHEMES,
        help="how the tags of words spell entities (default iob2, where they look like it; iob1 "
        "as in CoNLL-2003)",
    )


def _add_overlap(parser: Any) -> None:
    parser.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="tokens that two windows of a long context share (default 128, or a third of the "
        "room for the context)",
    )


def _add_batches(parser: Any) -> None:
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="default 32")
    parser.add_argument("--max-length", type=int, metavar="N", help="cut texts to N tokens")


def _add_machine(parser: Any, precision: str | None) -> None:
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--device", default=_default(parser, "auto"), help="auto (cuda, mps, cpu), or one of them"
    )
    if precision is not None:
        parser.add_argument(
            "--precision",
            choices=("auto", "bf16", "fp16", "fp32"),
            default=_default(parser, precision),
            help=f"default {precision}; auto is bf16 where the hardware is faster in it, "
            "else fp16 on cuda, else fp32",
        )


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")


def _default(parser: Any, value: Any) -> Any:
    """`value`, but for a command that wants to know which options were given."""
    return argparse.SUPPRESS if parser.argument_default == argparse.SUPPRESS else value
