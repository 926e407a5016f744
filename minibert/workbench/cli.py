"""The command line: one short function per command, which calls into `tasks` or `study`.

Results go to standard output, messages to standard error. Exit codes: 0 done, 2 wrong input,
1 disk, Hub and the rest, 130 and 143 after Ctrl-C and SIGTERM.

A command imports what it needs when it runs: torch takes seconds to import, and `--help`, a wrong
option and `minibert recipes` answer without it. To add a command, add its options in `arguments`
and a function here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from minibert.io.errors import ConfigError, DataError, HubError, MinibertError
from minibert.workbench import recipes
from minibert.workbench.arguments import MACHINE, command_line, parse
from minibert.workbench.runs.pretrain_settings import PretrainSettings
from minibert.workbench.runs.settings import READING, Settings, TrainingSettings, check
from minibert.workbench.texts import as_json, deliver, lines_of, print_result, require_output, say, texts_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        arguments: what follows `minibert` on the command line; by default that of this process.

    Raises:
        SystemExit: from argparse, for --help and for options that do not exist.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # "東京" in a terminal that has no such letters
            stream.reconfigure(errors="backslashreplace")
    if _is_first_process():
        return _run(parse(arguments))
    # Of the processes that torchrun starts, the first one speaks for all, and only training has
    # work for the others. It cannot know their errors, so those are printed.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        with contextlib.redirect_stderr(io.StringIO()):
            options = parse(arguments)
        warnings.simplefilter("ignore")
        return _run(options) if options.command in ("train", "pretrain") else 0


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"  # RANK is set by torchrun


def _run(options: argparse.Namespace) -> int:
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    with warnings.catch_warnings():
        if options.quiet:
            warnings.simplefilter("ignore")
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when its client is imported
        return _outcome_of(options)


def _outcome_of(options: argparse.Namespace) -> int:
    """Runs a command; its exit code."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        _use_threads(options)
        code = _COMMANDS[options.command](options)
        sys.stdout.flush()
        return code or 0
    except BrokenPipeError:
        # Whoever reads our output, such as `head`, has stopped: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt, _Terminated) as error:
        if options.debug:
            traceback.print_exc()
        message, code = _outcome(error)
        print("minibert:", message, *getattr(error, "__notes__", []), file=sys.stderr)
        return code
    finally:
        signal.signal(signal.SIGTERM, before)


def _use_threads(options: argparse.Namespace) -> None:
    """Sets the CPU threads of a command that runs a model; training does it itself and records it."""
    if options.command not in ("train", "pretrain") and getattr(options, "threads", None) is not None:
        import torch

        torch.set_num_threads(options.threads)


class _Terminated(BaseException):
    """SIGTERM came: files that are being written are removed on the way out, as by Ctrl-C."""


def _terminate(*_: Any) -> None:
    raise _Terminated


def _outcome(error: BaseException) -> tuple[str, int]:
    """What to say about an error, and the exit code."""
    if isinstance(error, MinibertError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", 130
    if isinstance(error, _Terminated):
        return "Terminated.", 143
    return f"{type(error).__name__}: {error} (--debug shows where it came from)", 1


# --- the commands -------------------------------------------------------------------------------


def _data(options: argparse.Namespace) -> None:
    from minibert.workbench.tasks.data import inspect

    _require_parts(options, *options.files)
    chosen = _given(options, "split", "model", "revision", "max_length")
    found = inspect(_splits(options), reading=_reading(options), progress=not options.quiet, **chosen)
    print(as_json(found.as_dict()) if options.json else found.summary())
    faults = sum(finding.severity == "fault" for finding in found.findings)
    if faults:
        raise DataError(f"Problems that make results meaningless: {faults} (see above).")


def _splits(options: argparse.Namespace) -> dict[str, str]:
    """The data by the name of the split: that of its option, or that of the file."""
    by_option = _given(options, "train", "validation", "test")
    splits = {key: path for key, path in by_option.items() if path is not None}
    if splits and options.files:
        raise ConfigError("Name files, or splits by their options, not both.", key="data")
    if splits and options.split is not None:
        raise ConfigError("split is for DATA: the splits have options of their own.", key="split")
    # The samples and folders have parts by these names, as others have files.
    names = ["train" if file == "samples" or Path(file).is_dir() else Path(file).name for file in options.files]
    if len(set(names)) < len(names):  # the same name in several folders
        names = options.files
    if len(set(names)) < len(names):
        raise ConfigError("A file is named twice.", key="data")
    return splits or dict(zip(names, options.files, strict=True))


_DEFAULT_JOB = """\
Without --model and --train this fine-tunes minibert-small, which ships with minibert, on sample
reviews (the recipe samples). Options change that; see minibert train --help."""
_NEXT = """\
next: train on a table of your own with the columns text and label, or on 25,000 reviews from the
Hub, which takes much longer:
  minibert train --recipe samples --train FILE.csv
  minibert train --model minibert-small --recipe imdb-finetune --learning-rate 2e-4"""


def _train(options: argparse.Namespace) -> None:
    progress, chosen = not options.quiet, _chosen(options, Settings)
    if hasattr(options, "resume"):
        if hasattr(options, "seeds"):
            raise ConfigError(
                "resume continues one run, but seeds asks for several.",
                key="seeds",
                hint="Repeat the --seeds command instead: it continues what is unfinished.",
            )
        from minibert.workbench.tasks.finetune import resume

        _show(resume(options.resume, progress=progress, **chosen), progress)
        return
    settings = _train_settings(chosen, progress)
    if hasattr(options, "seeds"):
        from minibert.workbench.tasks.seeds import train_seeds

        print(train_seeds(settings, options.seeds, progress=progress).summary())
        return
    from minibert.workbench.tasks.finetune import finetune

    _show(finetune(settings, progress=progress), progress)


def _train_settings(chosen: dict[str, Any], progress: bool) -> Settings:
    """Settings from options and recipe."""
    if not {"model", "train", "recipe"} & chosen.keys():
        chosen["recipe"] = recipes.DEFAULT
        if progress:
            print(_DEFAULT_JOB, file=sys.stderr)
    if "recipe" in chosen:
        chosen = recipes.load(chosen["recipe"], "train").values(**chosen)
    for key in ("model", "train"):
        if key not in chosen:
            raise ConfigError(
                f"Training needs --{key}.",
                key=key,
                hint="minibert-small is a model that needs no download; see minibert train --help.",
            )
    settings = Settings(**chosen)
    _check_early(settings)
    drawn = (settings.test_fraction, settings.train_subset, settings.test_subset)
    if settings.validation is not None and settings.data_seed is not None and not any(drawn):
        raise ConfigError("data_seed has no effect: no split or subset is drawn.", key="data_seed")
    return settings


def _show(run: Any, progress: bool) -> None:
    """The result of a run; after the job without options also its page, and what to do next."""
    from minibert.io.files import read_object
    from minibert.workbench.runs.folders import RECORD
    from minibert.workbench.tasks.report import write_report

    print(run.summary())
    if not _is_first_process():
        return  # the first one writes the page
    if read_object(run.folder / RECORD)["settings"]["recipe"] == recipes.DEFAULT:
        with contextlib.suppress(ConfigError):  # without matplotlib, which the run has warned of
            written = write_report(run.folder, progress=progress)
            print("written:", *written.pictures, written.page, sep="\n  ")
        if progress:
            print(_NEXT)


def _pretrain(options: argparse.Namespace) -> None:
    progress, chosen = not options.quiet, _chosen(options, PretrainSettings)
    if hasattr(options, "resume"):
        from minibert.workbench.tasks.pretrain import resume_pretraining

        print(resume_pretraining(options.resume, progress=progress, **chosen).summary())
        return
    settings = _pretrain_settings(chosen)
    from minibert.workbench.tasks.pretrain import pretrain

    print(pretrain(settings, progress=progress).summary())


def _pretrain_settings(chosen: dict[str, Any]) -> PretrainSettings:
    """Settings from options and recipe."""
    hint = "See minibert pretrain --help."
    if "recipe" in chosen:
        recipe = recipes.load(chosen["recipe"], "pretrain")
        chosen = recipe.values(**chosen)
        if "corpus" in recipe.local:
            files = ", ".join(recipe.local["corpus"])
            hint = f"Or set {recipes.DATA_FOLDER} to the folder that holds the recipe's: {files}."
    if "corpus" not in chosen:
        raise ConfigError("Pre-training needs --corpus.", key="corpus", hint=hint)
    settings = PretrainSettings(**chosen)
    _check_early(settings)
    return settings


def _recipes(options: argparse.Namespace) -> None:
    if options.name is None:
        print(recipes.overview())
        return
    recipe = recipes.load(options.name)
    command = command_line(recipes.COMMANDS[recipe.command], recipe.shown())
    print(*(f"# {line}" for line in recipe.about()), command, sep="\n")


def _evaluate(options: argparse.Namespace) -> None:
    from minibert.io.files import finite
    from minibert.workbench.kinds import KINDS
    from minibert.workbench.scores.baselines import verdicts
    from minibert.workbench.tasks.evaluate import evaluate_file

    _require_parts(options, options.data)
    report = evaluate_file(
        options.model,
        options.data,
        reading={**_reading(options), "split": options.split or "test"},
        progress=not options.quiet,
        **_given(options, *MACHINE, "batch_size", "max_length", "overlap"),
    )
    if options.output is not None:
        report.write(Path(options.output))
        say(options, f"metrics.json and errors.csv are in {options.output}")
    print(as_json(finite(report.metrics)) if options.json else report.summary())
    main_score = KINDS[report.problem_type].metrics[0]
    for sentence in verdicts({}, main_score, report.values().get(main_score, math.nan)):
        say(options, sentence)


def _report(options: argparse.Namespace) -> None:
    from minibert.workbench.tasks.report import write_report

    written = write_report(options.run, options.output, features=options.features, progress=not options.quiet)
    print(written.page, *written.pictures, sep="\n")


def _compare(options: argparse.Namespace) -> None:
    from minibert.workbench.tasks.compare import compare

    found = compare(options.run, examples=options.examples)
    print(as_json(found.as_dict()) if options.json else found.summary())


def _predict(options: argparse.Namespace) -> None:
    from minibert.workbench.kinds.tagged_text import TaggedText
    from minibert.workbench.tasks.predict import Predictor

    require_output(options)
    predictor = Predictor.from_pretrained(options.model, **_given(options, *MACHINE, "allow_untrained"))
    how = _given(options, "choice", "top", "allow_no_answer", "batch_size", "max_length", "overlap")
    answer = partial(predictor.of_records, progress=not options.quiet, **how)
    in_colour = sys.stdout.isatty() and not options.json and not os.environ.get("NO_COLOR")  # no-color.org

    def show(one: Any) -> None:
        if in_colour and isinstance(one, TaggedText):
            print(one.in_colour())
        else:
            print_result(one, options)

    deliver(options, texts_of(options, predictor.columns()), answer, show)


def _fill_mask(options: argparse.Namespace) -> None:
    from minibert.workbench.data.records import Columns
    from minibert.workbench.tasks.fill_mask import MaskFiller

    require_output(options)
    filler = MaskFiller.from_pretrained(options.model, **_given(options, "revision", "device"))
    answer = partial(filler.of_records, top=options.top, progress=not options.quiet)

    def show(one: Any) -> None:
        for mask in one.masks:
            print_result(mask, options)

    deliver(options, texts_of(options, Columns()), answer, show)


def _embed(options: argparse.Namespace) -> None:
    import numpy as np

    from minibert.workbench.data.records import Columns
    from minibert.workbench.tasks.embed import Embedder

    require_output(options, ".npy")
    embedder = Embedder.from_pretrained(
        options.model, **_given(options, *MACHINE, "pooling", "normalize", "layer", "prompt")
    )
    how = _given(options, "batch_size", "max_length")

    def answer(records: Any) -> list[Any]:
        return embedder.of_records(records, progress=not options.quiet, **how)

    texts = texts_of(options, Columns())
    if str(options.output).lower().endswith(".npy"):
        vectors = np.stack([one.vector for records in texts.parts for one in answer(records)])
        embedder.write(options.output, vectors)
        say(options, f"{len(vectors)} vectors of {vectors.shape[1]} in {options.output}")
        return

    def show(one: Any) -> None:
        print(as_json({"text": one.text, "embedding": one.vector.tolist()}) if options.json else one)

    deliver(options, texts, answer, show)


def _weights(options: argparse.Namespace) -> None:
    diff = len(options.model) == 3 and options.model[0] == "diff"
    if options.file is not None and not diff:
        raise ConfigError("--file has an effect with diff only.", key="file", hint="minibert weights diff A B --file F")
    if len(options.model) != (options.verify is None) and not diff:
        message = "Name a model, or diff and two models, or give --verify; one of the three."
        raise ConfigError(message, key="model")
    if options.verify is not None:
        _verify(options)
    elif diff:
        _diff(options)
    else:
        from minibert.study.ledger import ledger

        found = ledger(options.model[0], revision=options.revision)
        print(as_json(found.as_dict()) if options.json else "\n".join(found.lines()))


def _diff(options: argparse.Namespace) -> None:
    from minibert.workbench.tasks.apart import compare_checkpoints

    if options.revision is not None:
        raise ConfigError("A revision belongs to one model.", key="revision", hint="Leave --revision out.")
    texts = [] if options.file is None else lines_of(argparse.Namespace(texts=[], **vars(options)))
    _, first, second = options.model
    found = compare_checkpoints(first, second, texts, progress=not options.quiet)
    print(as_json(found.as_dict()) if options.json else found)


def _doctor(options: argparse.Namespace) -> int:
    from minibert.workbench.tasks.doctor import examine_file

    verdict = examine_file(options.file)
    print(as_json(verdict.as_dict()) if options.json else verdict)
    return 0 if verdict.equal else 1


def _explain(options: argparse.Namespace) -> None:
    from minibert.workbench.tasks.apart import explain_sentence

    page = explain_sentence(options.model, options.text, **_given(options, "pair", "compare", "revision"))
    page.save(options.output)
    print(options.output)


def _probe(options: argparse.Namespace) -> None:
    from minibert.io.files import finite
    from minibert.workbench.tasks.apart import probe_layers

    found = probe_layers(
        options.model,
        options.train,
        options.test,
        output=options.output,
        reading=_reading(options),
        progress=not options.quiet,
        **_given(options, "hidden", "seed", "max_length", "revision", "device"),
    )
    print(as_json(finite(found.as_dict())) if options.json else found)


def _verify(options: argparse.Namespace) -> None:
    from minibert.study.official import verify

    if options.revision is not None:
        raise ConfigError(
            "--verify takes the revisions from the table of official checkpoints.",
            key="revision",
            hint="Leave --revision out.",
        )
    results = verify(options.verify)
    for result in results:
        print_result(result, options)
    wrong = sum(result.status == "differs" for result in results)
    unseen = sum(result.status == "not reachable" for result in results)
    if wrong or unseen:
        raise HubError(
            f"Of {len(results)} checkpoints {wrong} differ from the table and {unseen} could not be reached."
        )


def _tokenize(options: argparse.Namespace) -> None:
    from minibert.workbench.data.records import Columns
    from minibert.workbench.tasks.tokenize import tokenize

    for records in texts_of(options, Columns()).parts:
        pairs = None if records[0].text_pair is None else [str(record.text_pair) for record in records]
        for row in tokenize(options.model, [record.sentence for record in records], pairs, revision=options.revision):
            print_result(row, options)


def _convert(options: argparse.Namespace) -> None:
    from minibert.workbench.tasks.convert import convert

    lowercase = options.uncased if options.cased or options.uncased else None
    print(convert(options.source, options.output, lowercase=lowercase, progress=not options.quiet))


def _vocabulary(options: argparse.Namespace) -> None:
    from minibert.workbench.tasks.vocabulary import train_vocabulary

    report = train_vocabulary(
        options.source,
        options.output,
        lowercase=not options.cased,
        progress=not options.quiet,
        **_given(options, "size", "column"),
    )
    print(report.summary())


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
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
    "explain": _explain,
    "probe": _probe,
    "doctor": _doctor,
    "weights": _weights,
    "tokenize": _tokenize,
    "vocabulary": _vocabulary,
    "convert": _convert,
}

# --- from options to arguments ------------------------------------------------------------------


def _given(options: argparse.Namespace, *keys: str) -> dict[str, Any]:
    """The options of these names, as arguments for what they are handed to."""
    return {key: getattr(options, key) for key in keys if hasattr(options, key)}


def _chosen(options: argparse.Namespace, kind: type[TrainingSettings]) -> dict[str, Any]:
    """The settings that were given on the command line."""
    return _given(options, *(item.name for item in fields(kind)))


def _check_early(settings: TrainingSettings) -> None:
    """Checks settings before torch is imported. Processes of torchrun do so together, later."""
    if "RANK" not in os.environ:
        check(settings)


def _require_parts(options: argparse.Namespace, *sources: str) -> None:
    """Refuses --split for a plain file."""
    for source in sources:
        if options.split is not None and Path(source).is_file():
            message = f"{source} is a file, and split names a part of a folder or a data set of the Hub."
            raise ConfigError(message, path=source, key="split", hint="Leave it out.")


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """How to read a data file: the arguments of `corpora.read` that the options name."""
    return {key: value for key, value in _given(options, *READING).items() if value is not None}
