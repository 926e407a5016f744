"""The command line: every command is one call into `tasks` or `study`.

Results go to standard output, messages to standard error. Exit codes: 0 done, 2 wrong input,
1 disk, Hub and the rest, 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from minibert import __version__
from minibert.errors import DataError, MinibertError
from minibert.study.ledger import ledger
from minibert.tasks.evaluate import METRICS, evaluate_file, finite
from minibert.tasks.finetune import Settings, finetune
from minibert.tasks.predict import Embedder, MaskFiller, Predictor, tokenize

EXAMPLES = """\
examples:
  minibert train --model MODEL --train train.csv --test test.csv
      fine-tune on a table with the columns text and label; a run folder in runs/ is the result
  minibert predict runs/001 "what a lovely day"
      use it
  minibert evaluate runs/001 other.csv
      measure it on other labelled text
  minibert fill-mask MODEL "Paris is the [MASK] of France."
  minibert embed MODEL --file texts.txt --output vectors.npy
  minibert weights MODEL
      every tensor of a checkpoint: official name, name here, shape
  minibert tokenize MODEL "Tokenizing text is a core task of NLP."

MODEL is a folder, a run folder, or the id of a model on the Hub (bert-base-uncased).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives back its exit code.

    Args:
        arguments: as after `minibert` on the command line; None: those of this process.

    Raises:
        SystemExit: from argparse, for --help and for options that do not exist.
    """
    options = _parse(arguments)
    warnings.formatwarning = _one_line
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        options.run(options)
        sys.stdout.flush()
    except MinibertError as error:
        return _fail(str(error), error.exit_code, options.debug)
    except KeyboardInterrupt:
        return _fail("Interrupted.", 130, options.debug)
    except _Terminated:
        return _fail("Terminated.", 143, options.debug)
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does: nothing is wrong, nothing to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return _fail(f"{message} (--debug shows where it came from)", 1, options.debug)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


class _Terminated(BaseException):
    """SIGTERM came: files that are being written are removed on the way out, as by Ctrl-C."""


def _terminate(*_: Any) -> None:
    raise _Terminated


def _fail(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"minibert: {message}", file=sys.stderr)
    return exit_code


def _one_line(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"warning: {message}\n"


# --- the commands -------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> None:
    chosen = {item.name: getattr(options, item.name) for item in fields(Settings)}
    run = finetune(Settings(**chosen), progress=not options.quiet)
    print(run.summary())


def _evaluate(options: argparse.Namespace) -> None:
    report = evaluate_file(
        options.model,
        options.data,
        revision=options.revision,
        reading=_reading(options),
        batch_size=options.batch_size,
        max_length=options.max_length,
        device=options.device,
        precision=options.precision,
        progress=not options.quiet,
    )
    if options.output is not None:
        report.write(Path(options.output))
        print(f"metrics.json and errors.csv are in {options.output}", file=sys.stderr)
    print(json.dumps(finite(report.metrics)) if options.json else report.summary())


def _predict(options: argparse.Namespace) -> None:
    predictor = Predictor.from_pretrained(
        options.model,
        revision=options.revision,
        device=options.device,
        precision=options.precision,
        allow_untrained=options.allow_untrained,
    )
    predictions = predictor(
        *_texts_and_pairs(options),
        batch_size=options.batch_size,
        max_length=options.max_length,
        progress=not options.quiet,
    )
    for prediction in predictions:
        print(json.dumps(asdict(prediction), ensure_ascii=False) if options.json else prediction)


def _fill_mask(options: argparse.Namespace) -> None:
    filler = MaskFiller.from_pretrained(
        options.model, revision=options.revision, device=options.device
    )
    for text in _texts(options):
        for mask in filler(text, top=options.top):
            print(json.dumps(asdict(mask), ensure_ascii=False) if options.json else mask)


def _embed(options: argparse.Namespace) -> None:
    embedder = Embedder.from_pretrained(
        options.model,
        revision=options.revision,
        device=options.device,
        precision=options.precision,
        pooling=options.pooling,
        normalize=options.normalize,
    )
    texts = _texts(options)
    vectors = embedder(
        texts,
        batch_size=options.batch_size,
        max_length=options.max_length,
        progress=not options.quiet,
    )
    if options.output is not None:
        embedder.write(options.output, vectors)
        print(f"{len(vectors)} vectors of {vectors.shape[1]} in {options.output}", file=sys.stderr)
        return
    for text, vector in zip(texts, vectors.tolist(), strict=True):
        if options.json:
            print(json.dumps({"text": text, "embedding": vector}, ensure_ascii=False))
        else:
            start = " ".join(f"{number:+.4f}" for number in vector[:6])
            print(f"{text[:40]:<40}  {start} ... ({len(vector)} numbers)")


def _weights(options: argparse.Namespace) -> None:
    found = ledger(options.model, revision=options.revision)
    print(json.dumps(found.as_dict()) if options.json else "\n".join(found.lines()))


def _tokenize(options: argparse.Namespace) -> None:
    for row in tokenize(options.model, *_texts_and_pairs(options), revision=options.revision):
        print(json.dumps(asdict(row), ensure_ascii=False) if options.json else row)


# --- texts ---------------------------------------------------------------------------------------


def _texts(options: argparse.Namespace) -> list[str]:
    """Texts from the arguments, else one a line from a file, else from standard input."""
    if options.text and options.file:
        raise DataError("Give texts or --file, not both.", key="--file")
    if options.text:
        return options.text
    if options.file is None and sys.stdin.isatty():
        print("Type a text and press Enter; Ctrl-D ends.", file=sys.stderr)
    return _lines(options.file)


def _texts_and_pairs(options: argparse.Namespace) -> tuple[list[str], list[str] | None]:
    """The texts, and the second text of each: the one of --pair, or with --pairs after a tab."""
    texts = _texts(options)
    if not options.pairs:
        return texts, None if options.pair is None else [options.pair] * len(texts)
    rows = [text.split("\t") for text in texts]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise DataError(
                f"Text {number} has {len(row) - 1} tabs, but --pairs needs one, between two texts.",
                key="--pairs",
                expected=1,
                found=len(row) - 1,
            )
    return [first for first, _ in rows], [second for _, second in rows]


def _lines(file: str | None) -> list[str]:
    try:
        if file is None or file == "-":
            content = sys.stdin.buffer.read().decode("utf-8-sig")
        else:
            content = Path(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} could not be read: {error.strerror}.", path=file) from error
    except UnicodeDecodeError as error:
        name = file or "standard input"
        raise DataError(f"{name} is not UTF-8 text: {error}.", path=name) from error
    if not content:
        raise DataError(f"{file or 'Standard input'} holds no text.", path=file)
    # A blank line is an empty text, so that the n-th result is that of the n-th line.
    return [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")]


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """How to read a data file: the arguments of `corpora.read` that the options name."""
    keys = ("format", "sep", "names", "text", "text_pair", "label", "quoting", "split")
    return {key: getattr(options, key) for key in keys}


# --- the parser ----------------------------------------------------------------------------------


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
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
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_fill_mask(commands)
    _add_embed(commands)
    _add_weights(commands)
    _add_tokenize(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        _train,
        "fine-tune a model on labelled text",
        "Fine-tunes a pre-trained model on labelled text: a table of texts (csv, tsv, jsonl, "
        "parquet), a folder like aclImdb, or tagged sentences (CoNLL). Writes a run folder with "
        "the model, the scores, and every example by its loss.",
    )
    parser.add_argument("--model", required=True, help="model folder, run folder or Hub id")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--train",
        required=True,
        metavar="DATA",
        help="training data: a file, a folder, or a Hub data set (owner/name, owner/name:part)",
    )
    data.add_argument(
        "--validation", metavar="DATA", help="chooses the epoch; default: a share of --train"
    )
    data.add_argument("--test", metavar="DATA", help="measured once, at the end")
    data.add_argument(
        "--validation-fraction",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of --train, where there is no --validation (default 0.1, stratified)",
    )
    data.add_argument(
        "--train-subset", type=int, metavar="N", help="train on N examples, stratified"
    )
    data.add_argument("--test-subset", type=int, metavar="N", help="test on N examples, stratified")
    _add_reading(data)
    data.add_argument(
        "--problem-type",
        choices=tuple(METRICS),
        help="what the labels are (default: as they look; "
        "whole numbers are classes unless this says regression)",
    )
    data.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="cut texts to N tokens (default: as many as the model takes); kept with the model",
    )
    how = parser.add_argument_group("training")
    how.add_argument("--epochs", type=int, default=3, metavar="N", help="default 3")
    how.add_argument("--batch-size", type=int, default=32, metavar="N", help="default 32")
    how.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="batches to an update (default 1); exact, and saves memory",
    )
    how.add_argument(
        "--learning-rate",
        type=float,
        default=5e-5,
        metavar="RATE",
        help="default 5e-5; small models like 1e-4",
    )
    how.add_argument(
        "--weight-decay",
        type=float,
        default=0.01,
        metavar="RATE",
        help="default 0.01; not on biases and norms",
    )
    how.add_argument(
        "--warmup", type=float, default=0.1, metavar="SHARE", help="of all updates (default 0.1)"
    )
    how.add_argument(
        "--schedule",
        choices=("linear", "cosine", "constant"),
        default="linear",
        help="of the learning rate after the warm-up (default linear, down to 0)",
    )
    how.add_argument("--clip-norm", type=float, default=1.0, metavar="NORM", help="default 1.0")
    how.add_argument(
        "--patience", type=int, metavar="N", help="stop after N epochs without a gain on validation"
    )
    how.add_argument(
        "--watch",
        metavar="METRIC",
        help="the validation metric that chooses the epoch (default: accuracy, "
        "micro_f1, pearson or entity_f1, as the labels are)",
    )
    how.add_argument("--freeze", action="store_true", help="train the head alone")
    how.add_argument(
        "--gradient-checkpointing", action="store_true", help="less memory for a third more time"
    )
    how.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    where = parser.add_argument_group("where")
    where.add_argument("--output", metavar="FOLDER", help="run folder (default: the next in runs/)")
    _add_machine(where, precision="auto")
    where.add_argument(
        "--threads", type=int, metavar="N", help="of the CPU (default: torch's choice)"
    )


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        _evaluate,
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
        help="also write metrics.json, confusion.csv and errors.csv there",
    )
    _add_batches(parser)
    _add_machine(parser, precision="auto")
    _add_json(parser)


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands,
        "predict",
        _predict,
        "class of a text, or tags of its words",
        "Predicts with a fine-tuned model: the class of each text and its probability, or the tag "
        "of each word.",
    )
    parser.add_argument("model", help="run folder, model folder or Hub id")
    _add_texts(parser)
    _add_pair(parser)
    parser.add_argument(
        "--allow-untrained",
        action="store_true",
        help="predict with a head that was never trained (noise)",
    )
    _add_batches(parser)
    _add_machine(parser, precision="auto")
    _add_json(parser)


def _add_fill_mask(commands: Any) -> None:
    parser = _command(
        commands,
        "fill-mask",
        _fill_mask,
        "likeliest words for a [MASK]",
        "Prints the likeliest pieces for each [MASK] of a text, by a model with a masked-LM head.",
    )
    parser.add_argument("model", help="model folder or Hub id")
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
        _embed,
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
        _weights,
        "every tensor of a checkpoint",
        "Prints the ledger of a checkpoint: every tensor with its official name, its name here, "
        "shape and dtype, what was left out and why, and parameter counts by part.",
    )
    parser.add_argument("model", help="model folder, run folder or Hub id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    _add_json(parser)


def _add_tokenize(commands: Any) -> None:
    parser = _command(
        commands,
        "tokenize",
        _tokenize,
        "a text as the model reads it",
        "Prints each piece of a text with its id and its place in the text.",
    )
    parser.add_argument("model", help="model folder, run folder or Hub id")
    _add_texts(parser)
    _add_pair(parser)
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    _add_json(parser)


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], short: str, long: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=short, description=long)
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and messages")
    return parser


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
        choices=("csv", "tsv", "jsonl", "parquet", "conll", "folder"),
        help="default: by the file's ending",
    )
    parser.add_argument("--sep", metavar="CHAR", help="what separates columns, such as ';'")
    parser.add_argument(
        "--names", nargs="+", metavar="COLUMN", help="the columns of a table without a header line"
    )
    parser.add_argument(
        "--quoting",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether '\"' quotes (default: in .csv files)",
    )
    parser.add_argument("--text", default="text", metavar="COLUMN", help="default text")
    parser.add_argument("--text-pair", metavar="COLUMN", help="the second text of a pair")
    parser.add_argument("--label", default="label", metavar="COLUMN", help="default label")


def _add_batches(parser: Any) -> None:
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="default 32")
    parser.add_argument("--max-length", type=int, metavar="N", help="cut texts to N tokens")


def _add_machine(parser: Any, precision: str | None) -> None:
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--device", default="auto", help="auto (cuda, mps, cpu), or one of them")
    if precision is not None:
        parser.add_argument(
            "--precision",
            choices=("auto", "bf16", "fp16", "fp32"),
            default=precision,
            help=f"default {precision}; auto is bf16 where the hardware has matrix instructions "
            "for it, else fp16 on cuda, else fp32",
        )


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
