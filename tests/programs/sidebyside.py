"""Fine-tuning beside transformers: the same data, batches and settings, two models, several seeds.

    python -m tests.programs.sidebyside MINILM_FOLDER wnut17 rte cola xquad --output FOLDER

Ours is `minibert.workbench.finetune`. Theirs is transformers' own model in the short loop that
people write: forward pass with labels, its loss, torch's AdamW, gradient clipping. Both sides share
the checkpoint, the splits, which texts are in which batch, the order of batches, learning rates and
weight decay, the epoch that validation chooses, how logits are scored (tags by seqeval too), and
float32 on one CPU thread. They differ in the numbers of the fresh head, in dropout, and in padded
questions, where transformers' softmax runs over the padding.

Each finished run is recorded in FOLDER with its settings and is not repeated; one of ours that was
interrupted is resumed. MINIBERT_DATA names the folder of data sets.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import seqeval.metrics
import torch
import transformers

from minibert.io.files import write_json
from minibert.io.tables import table
from minibert.optim import Schedule, build_optimizer, parameter_groups
from minibert.tokenizer import BertTokenizer
from minibert.workbench import Settings, finetune, recipes
from minibert.workbench.kinds.evaluation import Measured, Report
from minibert.workbench.runs.folders import RECORD, begun
from minibert.workbench.runs.settings import as_record
from minibert.workbench.tasks.common import planned
from minibert.workbench.tasks.finetune import resume
from minibert.workbench.tasks.splits import read_splits

# MiniLM takes a higher rate than BERT-base, for which the recipes are; a share of all updates to
# warm up, and the schedule then falls to 0.
SETTINGS: dict[str, dict[str, Any]] = {
    "wnut17": {"learning_rate": 3e-4, "batch_size": 16, "epochs": 3, "warmup": 0.1},
    "rte": {"learning_rate": 1e-4, "batch_size": 16, "epochs": 3, "warmup": 0.1},
    "cola": {"learning_rate": 1e-4, "batch_size": 16, "epochs": 3, "warmup": 0.1},
    "xquad": {"learning_rate": 3e-4, "batch_size": 16, "epochs": 3, "warmup": 0.1},
}
MODELS = {
    "token_classification": transformers.BertForTokenClassification,
    "single_label_classification": transformers.BertForSequenceClassification,
    "question_answering": transformers.BertForQuestionAnswering,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="folder of the pre-trained model")
    parser.add_argument("recipe", nargs="+", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--epochs", type=int, metavar="N", help="default 3")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for all runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.recipe:
        changes = {} if options.epochs is None else {"epochs": options.epochs}
        values = recipes.load(name).values(model=options.model, **{**SETTINGS[name], **changes})
        results: dict[str, list[dict[str, Any]]] = {"minibert": [], "transformers": []}
        for seed in range(options.seeds):
            for side, run in (("minibert", _ours), ("transformers", _theirs)):
                folder = options.output / f"{name}-{side}-{seed}"
                # The subsets and splits are drawn by seed 0 for all.
                fixed = {"data_seed": 0, "threads": 1, "device": "cpu", "precision": "fp32"}
                settings = Settings(**{**values, **fixed, "seed": seed, "output": folder / "run"})
                results[side].append(_kept(folder / "scores.json", settings, run))
        print(_summary(name, results), flush=True)


def _kept(path: Path, settings: Settings, run: Callable[[Settings], dict[str, float]]) -> dict[str, float]:
    """The scores of a run, from its file if it is there."""
    made_of = as_record(settings)
    if not path.exists():
        scores = run(settings)
        write_json(path, {"settings": made_of, "scores": scores})
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["settings"] != json.loads(json.dumps(made_of)):
        raise SystemExit(f"{path} is of other settings than these: name another --output.")
    return stored["scores"]


def _ours(settings: Settings) -> dict[str, float]:
    folder = Path(str(settings.output))
    if begun(folder) and json.loads((folder / RECORD).read_text())["status"] == "finished":
        shutil.rmtree(folder)  # killed before its scores were kept: its report is not on the disk
    given = as_record(settings)
    run = resume(folder, progress=False, **given) if begun(folder) else finetune(settings, progress=False)
    return _scores(run.reports["test"])


def _theirs(settings: Settings) -> dict[str, float]:
    """transformers' model in a plain loop; its best epoch on validation is tested."""
    kind, corpora = read_splits(settings)
    tokenizer = BertTokenizer.from_pretrained(settings.model)
    tokenizer.max_length = settings.max_length or tokenizer.max_length
    rows = {name: kind.rows(corpus, tokenizer, overlap=settings.overlap) for name, corpus in corpora.items()}
    torch.manual_seed(settings.seed)
    names = corpora["train"].label_names
    model = MODELS[kind.problem_type].from_pretrained(
        settings.model, dtype=torch.float32, **({} if names is None else {"num_labels": len(names)})
    )

    def measure(split: str) -> Report:
        some = rows[split]
        logits: dict[int, torch.Tensor] = {}
        total = count = 0.0
        model.eval()
        for batch in planned(some, tokenizer, batch_size=32, shuffle=False):
            with torch.inference_mode():
                inputs = batch.load()
                output = model(**inputs)
                labels = inputs.get("labels", inputs.get("start_positions"))
                labelled = int((labels != -100).sum())
                total, count = total + output.loss.item() * labelled, count + labelled
            if isinstance(model, transformers.BertForQuestionAnswering):
                both = torch.stack((output.start_logits, output.end_logits), dim=-1)  # (B, S, 2)
            else:
                both = output.logits  # (B, C) or (B, S, C)
            logits.update(zip(batch.indices, both, strict=True))
        ordered = [logits[row] for row in range(len(some))]
        return kind.report(
            Measured(
                split, corpora[split], names or (), total / count, ordered, some.tokens_read(), some, intervals=False
            )
        )

    def batches(epoch: int) -> list[Any]:
        plan = {"batch_size": settings.batch_size, "seed": settings.seed, "epoch": epoch}
        return planned(rows["train"], tokenizer, **plan)

    steps = sum(len(batches(epoch)) for epoch in range(settings.epochs))
    groups = parameter_groups(model.named_parameters(), weight_decay=settings.weight_decay)
    optimizer = build_optimizer(groups, learning_rate=settings.learning_rate)
    warmup = round(settings.warmup * steps)
    schedule = Schedule(optimizer, settings.schedule, warmup=warmup, total=steps)
    watched = settings.watch or kind.metrics[0]
    best, weights = None, {}
    for epoch in range(settings.epochs):
        model.train()
        for batch in batches(epoch):
            model(**batch.load()).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        scores = measure("validation").values()
        found = (scores[watched], -scores["loss"])  # as ours: of equal scores the lower loss
        if best is None or found > best:
            best = found
            weights = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)
    return _scores(measure("test"))


def _scores(report: Report) -> dict[str, float]:
    values = {key: value for key, value in report.values().items() if key != "loss"}
    if report.problem_type == "token_classification":
        tags = [[row[key].split() for row in report.rows] for key in ("label", "prediction")]
        values["seqeval_f1"] = float(seqeval.metrics.f1_score(*tags))
    return values


def _summary(name: str, results: dict[str, list[dict[str, Any]]]) -> str:
    rows = []
    for metric in results["minibert"][0]:
        row: list[object] = [metric]
        for runs in results.values():
            values = [run[metric] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            row += [f"{statistics.mean(values):.4f} +- {spread:.4f}"]
            row += [", ".join(f"{value:.4f}" for value in values)]
        rows.append(row)
    header = (name, *(title for side in results for title in (side, "seed by seed")))
    return table(rows, header)


if __name__ == "__main__":
    main()
