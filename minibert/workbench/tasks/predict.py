"""`minibert predict`: the predictions of a fine-tuned model for texts.

predictor = Predictor.from_pretrained("runs/001")
for prediction in predictor(["what a lovely day", "go away"]):
    print(prediction.label, prediction.probability)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from minibert.data import TaggedExample
from minibert.fast.precision import choose_precision
from minibert.io.errors import ConfigError, DataError
from minibert.io.source import Source, open_source
from minibert.tokenizer import BertTokenizer
from minibert.workbench.data.examples import QuestionExample
from minibert.workbench.data.records import Columns, Record
from minibert.workbench.kinds import kind_of
from minibert.workbench.kinds.kind import Asked
from minibert.workbench.runs.folders import record_of
from minibert.workbench.tasks.common import pick_device
from minibert.workbench.tasks.evaluate import Classifier, open_classifier, require_pairs
from minibert.workbench.tasks.inference import ready_for_inference, run


class Predictor:
    """A fine-tuned model of any kind of task (or a frozen one with a probe), with its tokenizer."""

    def __init__(
        self,
        model: Classifier,
        tokenizer: BertTokenizer,
        *,
        device: str = "auto",
        precision: str = "auto",
        run: Mapping[str, Any] | None = None,
    ):
        self.kind = kind_of(model)
        self.names = self.kind.names_of(model)
        self.tokenizer = tokenizer
        self.run = run or {}  # its run.json, if the model is from a run
        chosen = choose_precision(precision, pick_device(device))
        self.model, self.precision = ready_for_inference(model, chosen)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | Source,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        allow_untrained: bool = False,
    ) -> Self:
        """Opens a run folder, a model folder or a Hub id.

        Raises:
            CheckpointError: the model does not do any kind of task, or (unless `allow_untrained`)
                its head was never trained, so that its predictions would be noise.
        """
        source = open_source(source, revision)
        model = open_classifier(source, allow_untrained=allow_untrained)
        tokenizer = BertTokenizer.from_pretrained(source)
        return cls(model, tokenizer, device=device, precision=precision, run=record_of(source))

    def columns(self) -> Columns:
        """The columns of a table, as far as nobody names others: those that a run was trained on."""
        settings = self.run.get("settings", {})
        if self.kind.form is QuestionExample:
            return Columns("question", "context")
        text, pair = settings.get("text", "text"), settings.get("text_pair")
        if self.kind.takes == "choices":
            return Columns(text, pair, choices=tuple(settings.get("choices") or ["choices"]))
        return Columns(text, pair)

    def of_records(self, records: Sequence[Record], *, choice: Sequence[str] | None = None, **how: Any) -> list[Any]:
        """Predicts the texts of records, as readers give them; see `__call__`.

        Args:
            choice: choices for all of them, in place of their own.
        """
        first = records[0]
        in_words = self.kind.form is TaggedExample
        texts: list[Any] = [record.question or (record.text if in_words else record.sentence) for record in records]
        pairs: list[Any] = [record.text if record.text_pair is None else record.text_pair for record in records]
        alone = first.text_pair is None and first.question is None
        own = None if first.choices is None else [record.choices or () for record in records]
        choices = own if choice is None else [choice] * len(records)
        return self(texts, None if alone else pairs, choices=choices, **how)

    def __call__(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        pairs: str | Sequence[str] | None = None,
        *,
        choices: Sequence[str] | Sequence[Sequence[str]] | None = None,
        top: int = 1,
        allow_no_answer: bool = False,
        batch_size: int = 32,
        max_length: int | None = None,
        overlap: int | None = None,
        progress: bool = False,
    ) -> list[Any]:
        """Predicts each text, in the order given; batches are planned by length.

        Args:
            texts: the texts; for token classification also sequences of words (a text is split at
                white space, and its punctuation from the words); for question answering the
                questions.
            pairs: a second text for each; for questions the contexts.
            choices: for multiple choice, the choices for each text.
            overlap: tokens that two windows of a long context share.
            top: how many answers to give to a question, of 20 candidates in each window.
            allow_no_answer: whether "no answer" may be the answer, where it scores highest.

        Returns:
            For each text what its kind of task gives: `Prediction`, `TaggedText`, `Answered`,
            `Chosen`.

        Raises:
            ConfigError: `top` is below 1, or is given (or `allow_no_answer`) for what is not an
                answer to a question.
            DataError: a text is not what the task takes, or `pairs` or `choices` are not as many as
                the texts, or the task takes none; or the model was trained on pairs and these are
                not, or the reverse.
        """
        if top < 1:
            raise ConfigError(f"top is {top}, but it must be 1 or more.", key="top")
        for key, given in {"top": top > 1, "allow_no_answer": allow_no_answer}.items():
            if given and not self.kind.in_windows:
                raise ConfigError(
                    f"{key} is about answers to questions, and this model does {self.kind.problem_type}.",
                    key=key,
                    hint="Leave it out; --json prints the probability of every class." if self.kind.named else None,
                )
        if choices is not None and not isinstance(choices, Sequence):
            raise DataError("The choices are not a sequence.", key="choices")
        if isinstance(texts, str):
            texts = [texts]
            if choices is not None and all(isinstance(choice, str) for choice in choices):
                choices = [choices]  # type: ignore[list-item]
        texts = list(texts)
        pairs = [pairs] if isinstance(pairs, str) else pairs
        if not texts:
            return []
        if choices is None:
            require_pairs(self.run, pairs is not None)
        corpus = self.kind.unlabelled(texts, pairs=pairs, choices=choices)
        rows = self.kind.rows(corpus, self.tokenizer, max_length=max_length, overlap=overlap)
        result = run(
            self.model,
            rows,
            self.tokenizer,
            self.precision,
            batch_size=batch_size,
            progress="predicting" if progress and len(rows) > batch_size else None,
        )
        return self.kind.predictions(Asked(corpus, rows, self.names, result.logits, top, allow_no_answer))
