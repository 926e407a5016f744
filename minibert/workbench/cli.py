"""The command line: every command is one call into `tasks` or `study`.

Results go to standard output, messages to standard error. Exit codes: 0 done, 2 wrong input,
1 disk, Hub and the rest, 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from minibert.io.errors import ConfigError, DataError, HubError, MinibertError
from minibert.io.files import finite, read_object
from minibert.study.ledger import ledger
from minibert.study.official import verify
from minibert.workbench import recipes
from minibert.workbench.arguments import parse
from minibert.workbench.kinds.tagged_text import TaggedText
from minibert.workbench.runs.folders import RECORD
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import READING, TrainingSettings
from minibert.workbench.tasks.compare import compare
from minibert.workbench.tasks.data import inspect
from minibert.workbench.tasks.embed import Embedder
from minibert.workbench.tasks.evaluate import evaluate_file
from minibert.workbench.tasks.fill_mask import MaskFiller
from minibert.workbench.tasks.finetune import Run, Settings, finetune, resume
from minibert.workbench.tasks.predict import Predictor
from minibert.workbench.tasks.pretrain import pretrain, resume_pretraining
from minibert.workbench.tasks.report import write_report
from minibert.workbench.tasks.seeds import train_seeds
from minibert.workbench.tasks.tokenize import tokenize
from minibert.workbench.tasks.vocabulary import train_vocabulary


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives back its exit code.

    Args:
        arguments: as after `minibert` on the command line; None: those of this process.

    Raises:
        SystemExit: from argparse, for --help and for options that do not exist.
    """
    if os.environ.get("RANK", "0") == "0":
        return _run(parse(arguments))
    # One of the processes that torchrun started: the first speaks for all, and only training has
    # work for the others. Of their errors it does not know, so those do appear.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        with contextlib.redirect_stderr(io.StringIO()):
            options = parse(arguments)
        warnings.simplefilter("ignore")
        return _run(options) if options.command in ("train", "pretrain") else 0


def _run(options: argparse.Namespace) -> int:
    warnings.formatwarning = _one_line
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        _COMMANDS[options.command](options)
        sys.stdout.flush()
    except MinibertError as error:
        return _fail(_with_notes(str(error), error), error.exit_code, options.debug)
    except KeyboardInterrupt as error:
        return _fail(_with_notes("Interrupted.", error), 130, options.debug)
    except _Terminated as error:
        return _fail(_with_notes("Terminated.", error), 143, options.debug)
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


def _with_notes(message: str, error: BaseException) -> str:
    return " ".join([message, *getattr(error, "__notes__", [])])


def _fail(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"minibert: {message}", file=sys.stderr)
    return exit_code


def _one_line(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"warning: {message}\n"


# --- the commands -------------------------------------------------------------------------------


def _data(options: argparse.Namespace) -> None:
    found = inspect(
        _splits(options),
        reading=_reading(options),
        split=options.split,
        model=options.model,
        revision=options.revision,
        max_length=options.max_length,
        progress=not options.quiet,
    )
    print(json.dumps(found.as_dict(), ensure_ascii=False) if options.json else found.summary())
    faults = sum(finding.severity == "fault" for finding in found.findings)
    if faults:
        raise DataError(f"{faults} of the findings would make a result meaningless.")


def _splits(options: argparse.Namespace) -> dict[str, str]:
    """The data by the name of the split: that of its option, or that of the file."""
    by_option = {key: getattr(options, key) for key in ("train", "validation", "test")}
    splits = {key: path for key, path in by_option.items() if path is not None}
    if splits and options.files:
        raise ConfigError("Name files, or splits by their options, not both.", key="data")
    # The samples have parts by these names, as others have files.
    names = ["train" if file == "samples" else Path(file).name for file in options.files]
    if len(set(names)) < len(names):  # the same name in several folders
        names = options.files
    if len(set(names)) < len(names):
        raise ConfigError(
            "A file is named twice.",
            key="data",
        )
    return splits or dict(zip(names, options.files, strict=True))


_ALONE = """\
No model and no data are named: fine-tunes minibert-small, which ships with minibert, on its sample
reviews. Any option changes that (the recipe is samples; see minibert train --help)."""
_NEXT = """\
the same on text of your own (columns text and label), and, which takes far longer, on 25,000
reviews of the Hub:
  minibert train --recipe samples --train FILE.csv
  minibert train --model minibert-small --recipe imdb-finetune --learning-rate 2e-4"""


def _train(options: argparse.Namespace) -> None:
    given = vars(options)
    chosen = _chosen(options, Settings)
    if "resume" in given:
        if "seeds" in given:
            raise ConfigError(
                "A run that is gone on with is one run, and seeds asks for several.",
                key="seeds",
                hint="The same --seeds command again goes on with what is unfinished.",
            )
        run = resume(given["resume"], progress=not options.quiet, **chosen)
        _say(run, options)
        return
    alone = not {"model", "train", "recipe"} & chosen.keys()
    if alone:
        chosen["recipe"] = recipes.DEFAULT
        if not options.quiet:
            print(_ALONE, file=sys.stderr)
    if "recipe" in chosen:
        chosen = recipes.load(chosen["recipe"], Settings.command).values(**chosen)
    for key in ("model", "train"):
        if key not in chosen:
            raise ConfigError(
                f"Training needs --{key}.",
                key=key,
                hint="--model minibert-small is at hand; see minibert train --help.",
            )
    settings = Settings(**chosen)
    if "seeds" in given:
        print(train_seeds(settings, options.seeds, progress=not options.quiet).summary())
        return
    _say(finetune(settings, progress=not options.quiet), options)


def _say(run: Run, options: argparse.Namespace) -> None:
    """The result; of the job that needs no download all pictures and the page, too."""
    print(run.summary())
    if os.environ.get("RANK", "0") != "0":
        return  # the first process writes it
    if read_object(run.folder / RECORD)["settings"]["recipe"] == recipes.DEFAULT:
        with contextlib.suppress(ConfigError):  # without matplotlib, which the run has warned of
            written = write_report(run.folder, progress=not options.quiet)
            print("written:", *written.pictures, written.page, sep="\n  ")
        print(_NEXT)


def _pretrain(options: argparse.Namespace) -> None:
    chosen, show = _chosen(options, PretrainSettings), not options.quiet
    if hasattr(options, "resume"):
        print(resume_pretraining(options.resume, progress=show, **chosen).summary())
        return
    hint = "See minibert pretrain --help."
    if "recipe" in chosen:
        recipe = recipes.load(chosen["recipe"], PretrainSettings.command)
        chosen = recipe.values(**chosen)
        if "corpus" in recipe.local:
            files = ", ".join(recipe.local["corpus"])
            hint = f"Or set {recipes.DATA_FOLDER} to the folder that has the recipe's: {files}."
    if "corpus" not in chosen:
        raise ConfigError("Pre-training needs --corpus.", key="corpus", hint=hint)
    print(pretrain(PretrainSettings(**chosen), progress=show).summary())


def _chosen(options: argparse.Namespace, kind: type[TrainingSettings]) -> dict[str, Any]:
    """The settings that were given."""
    return {
        item.name: getattr(options, item.name)
        for item in fields(kind)
        if hasattr(options, item.name)
    }


def _recipes(options: argparse.Namespace) -> None:
    print(recipes.overview())


def _evaluate(options: argparse.Namespace) -> None:
    report = evaluate_file(
        options.model,
        options.data,
        revision=options.revision,
        reading={**_reading(options), "split": options.split},
        batch_size=options.batch_size,
        max_length=options.max_length,
        overlap=options.overlap,
        device=options.device,
        precision=options.precision,
        progress=not options.quiet,
    )
    if options.output is not None:
        report.write(Path(options.output))
        print(f"metrics.json and errors.csv are in {options.output}", file=sys.stderr)
    print(json.dumps(finite(report.metrics)) if options.json else report.summary())


def _report(options: argparse.Namespace) -> None:
    written = write_report(
        options.run, options.output, features=options.features, progress=not options.quiet
    )
    print(written.page)
    for picture in written.pictures:
        print(picture)


def _compare(options: argparse.Namespace) -> None:
    found = compare(options.run, examples=options.examples)
    text = json.dumps(found.as_dict(), ensure_ascii=False) if options.json else found.summary()
    print(text)


def _predict(options: argparse.Namespace) -> None:
    predictor = Predictor.from_pretrained(
        options.model,
        revision=options.revision,
        device=options.device,
        precision=options.precision,
        allow_untrained=options.allow_untrained,
    )
    texts, pairs = _texts_and_pairs(options)
    predictions = predictor(
        texts,
        pairs,
        choices=None if options.choices is None else [options.choices] * len(texts),
        top=options.top,
        allow_no_answer=options.allow_no_answer,
        batch_size=options.batch_size,
        max_length=options.max_length,
        overlap=options.overlap,
        progress=not options.quiet,
    )
    in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # no-color.org
    for prediction in predictions:
        if options.json:
            print(json.dumps(asdict(prediction), ensure_ascii=False))
        else:
            coloured = in_colour and isinstance(prediction, TaggedText)
            print(prediction.in_colour() if coloured else prediction)


def _fill_mask(options: argparse.Namespace) -> None:
    filler = MaskFiller.from_pretrained(
        options.model, revision=options.revision, device=options.device
    )
    texts = _texts(options)
    for number, text in enumerate(texts, start=1):
        try:
            filled = filler(text, top=options.top)
        except DataError as problem:
            if len(texts) > 1:
                problem.add_note(f"It is text {number} of {len(texts)}.")
            raise
        for mask in filled:
            print(json.dumps(asdict(mask), ensure_ascii=False) if options.json else mask)


def _embed(options: argparse.Namespace) -> None:
    embedder = Embedder.from_pretrained(
        options.model,
        revision=options.revision,
        device=options.device,
        precision=options.precision,
        pooling=options.pooling,
        normalize=options.normalize,
        layer=options.layer,
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
    if (options.model is None) == (options.verify is None):
        raise ConfigError("Name a model, or say --verify: one of them.", key="model")
    if options.verify is not None:
        if options.revision is not None:
            raise ConfigError(
                "The table of official checkpoints has revisions of its own.",
                key="revision",
                hint="Leave --revision out.",
            )
        results = verify(options.verify)
        for result in results:
            print(json.dumps(asdict(result)) if options.json else result)
        wrong = sum(result.status == "differs" for result in results)
        unseen = sum(result.status == "not reachable" for result in results)
        if wrong or unseen:
            raise HubError(
                f"Of {len(results)} checkpoints {wrong} differ from the table and {unseen} could "
                "not be reached."
            )
        return
    found = ledger(options.model, revision=options.revision)
    print(json.dumps(found.as_dict()) if options.json else "\n".join(found.lines()))


def _tokenize(options: argparse.Namespace) -> None:
    for row in tokenize(options.model, *_texts_and_pairs(options), revision=options.revision):
        print(json.dumps(asdict(row), ensure_ascii=False) if options.json else row)


def _vocabulary(options: argparse.Namespace) -> None:
    report = train_vocabulary(
        options.source,
        options.output,
        size=options.size,
        lowercase=not options.cased,
        column=options.column,
        progress=not options.quiet,
    )
    print(report.summary())


_COMMANDS = {
    "data": _data,
    "train": _train,
    "pretrain": _pretrain,
    "recipes": _recipes,
    "evaluate": _evaluate,
    "report": _report,
    "compare": _compare,
    "predict": _predict,
    "fill-mask": _fill_mask,
    "embed": _embed,
    "weights": _weights,
    "tokenize": _tokenize,
    "vocabulary": _vocabulary,
}


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
    return {key: getattr(options, key) for key in READING if hasattr(options, key)}
