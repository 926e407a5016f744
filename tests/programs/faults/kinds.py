"""Mistakes of the kinds of task: answers, entities, choices, scores."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "workbench/data",
        "workbench/data/test_windows",
        (
            "an answer may end where the window has ended",
            "pieces[1] >= self.start + len(self.offsets)",
            "pieces[1] > self.start + len(self.offsets)",
        ),
        ("windows do not know what they share", "step = room - _shared(room, self._overlap)", "step = room"),
    ),
    *faults(
        "data.py",
        "workbench/data/test_windows",
        ("positions of an answer ignore padding on the left", 'if padding_side == "left":', "if False:"),
    ),
    *faults(
        "workbench/kinds",
        "workbench/kinds/test_spans",
        ("an answer may end before it starts", "window.first + first + more)", "window.first + first - more)"),
        ("the question answers itself", "logits[window.first : window.first + pieces]", "logits[:pieces]"),
        (
            "one window without the answer decides for all",
            "min(float(logits[row][NOT_HERE[0]].sum())",
            "max(float(logits[row][NOT_HERE[0]].sum())",
        ),
    ),
    *faults("workbench/scores", "workbench/kinds/test_spans", ("articles count", 'r"\\b(a|an|the)\\b"', 'r"\\b\\B"')),
    *faults(
        "heads.py",
        "workbench/data/test_choices",
        (
            "an absent choice can be chosen",
            "masked_fill(to_device(absent, logits.device), -torch.inf)",
            "masked_fill(to_device(absent, logits.device), 0.0)",
        ),
    ),
    *faults(
        "workbench/kinds",
        "workbench/tasks/test_predict",
        ("the last piece of a word speaks for it", "places.setdefault(word, place)", "places[word] = place"),
    ),
    *faults(
        "workbench/scores",
        "workbench/kinds/test_tags",
        (
            "I after nothing starts no entity",
            'if tag[:2] in ("B-", "I-") and not kind:',
            'if tag[:2] == "B-" and not kind:',
        ),
    ),
    *faults(
        "workbench/data",
        "workbench/data/test_corpora",
        ("IOB1 is taken for IOB2", 'tag = f"B-{tag[2:]}"', "pass"),
        ("questions on one context are split", "draw = _draw_groups if grouped else _draw", "draw = _draw"),
    ),
    *faults(
        "workbench/scores",
        "workbench/kinds/test_classes",
        ("Matthews without the labels' shares", "right * total - (truth * predicted).sum(axis=-1)", "right * total"),
    ),
]
