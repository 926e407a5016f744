"""Mistakes of pre-training: masks, pairs of segments, settings without effect."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "workbench/tasks",
        "workbench/tasks/test_pretrain",
        ("no warning of text it has read", "same and before", "False and before"),
        ("always 15%", "share=settings.mask_share", "share=0.15"),
        ("never whole words", "whole_words=settings.whole_words", "whole_words=False"),
        ("never cased", "lowercase=not settings.cased", "lowercase=True"),
        (
            "a vocabulary of what is held out too",
            'document.text for document in documents["train"]',
            "document.text for part in documents.values() for document in part",
        ),
        ("always the usual dropout", "0.1 if settings.dropout is None else settings.dropout", "0.1"),
        ("always 32 rows", "tokens = settings.batch_size *", "tokens = 32 *"),
        ("one epoch's pairs", '"pairs", epoch', '"pairs"'),
        ("one epoch's masks", '"masks", epoch', '"masks"'),
        ("duplicates with other spacing", '" ".join(document.text.split())', "document.text"),
    ),
    *faults(
        "workbench/data",
        "workbench/data/test_masking",
        ("special tokens are hidden too", "self.ordinary[list(special.values())] = False", "pass"),
        ("a row may have no label", "((draws < self.share) | (draws == lowest))", "(draws < self.share)"),
        ("words in pieces", "if self.whole_words:", "if False:"),
        ("all that is chosen becomes [MASK]", "MASKED, REPLACED = 0.8, 0.1", "MASKED, REPLACED = 1.0, 0.0"),
        ("10% too many replaced", "MASKED, REPLACED = 0.8, 0.1", "MASKED, REPLACED = 0.8, 0.2"),
        (
            "special tokens as replacements",
            "drawn = self._replacements[others]",
            "drawn = generator.integers(len(self.ordinary), size=ids.shape)",
        ),
        ("labels everywhere", "np.where(chosen, ids, IGNORED_LABEL)", "ids"),
        ("the global generator", "fate = generator.random(ids.shape)", "fate = np.random.random(ids.shape)"),
    ),
    *faults(
        "workbench/data",
        "workbench/data/test_passages",
        ("random second texts of the same document", "other.document != row.document and ", ""),
        ("the labels of pairs exchanged", "FOLLOWS, STRANGER = 0, 1", "FOLLOWS, STRANGER = 1, 0"),
        (
            "the text that was replaced is lost",
            "ours[2:4], theirs[2:4] = theirs[2:4], ours[2:4]",
            "ours[2:4] = theirs[2:4]",
        ),
        ("random second texts of any length", "sorted(rows, key=lambda row: row.second)", "rows"),
        (
            "random second texts end their documents more or less often",
            "split[last == end].append",
            "split[True].append",
        ),
        (
            "a lone text is labelled as random",
            "rows.append([begin, stop, stop, stop, IGNORED_LABEL])",
            "rows.append([begin, stop, stop, stop, STRANGER])",
        ),
        (
            "the rest of a long sentence is lost",
            "return [*ends, len(ids)] if len(ids) else []",
            "return ends or [len(ids)]",
        ),
    ),
    *faults(
        "workbench/tasks/pretrain_model.py",
        "workbench/tasks/test_pretrain",
        ("no gradient checkpointing", "model.use_gradient_checkpointing(settings.gradient_checkpointing)", "pass"),
    ),
]
