"""Mistakes of the training loop, the optimizer's groups and the schedules."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "training.py",
        "lesson/test_loop",
        (
            "a mean of means",
            "total / (counts[name] or 1) for name",
            "total / (output.loss_terms[name][1] or 1) for name",
        ),
        ("a window without labels divides by zero", "(counts[name] or 1)", "counts[name]"),
        ("the scaler is left out", "scaler.scale(loss).backward()", "loss.backward()"),
        ("clipped before unscaling", "    scaler.unscale_(optimizer)\n", ""),
        ("never clipped", "nn.utils.clip_grads_with_norm_(parameters, training.clip_norm, norm)", "pass"),
        ("the scale never changes", "        scaler.update()\n", ""),
        (
            "the schedule counts skipped steps",
            "    if not skipped:\n        training.schedule",
            "    if True:\n        training.schedule",
        ),
        ("gradients are kept", "    optimizer.zero_grad(set_to_none=True)\n", ""),
        ("a step that is not finite is taken", "if finite or scaler.is_enabled():", "if True:"),
        (
            "the backward pass runs under autocast",
            "scaler.scale(loss).backward()",
            "with training.autocast():\n            scaler.scale(loss).backward()",
        ),
        ("dropout stays off after an evaluation", "            training.model.train()", "            pass"),
        ("a skipped step spoils the epoch's loss", "            if not step.skipped:\n", "            if True:\n"),
        ("skips are forgotten", "position.skipped_in_a_row + 1 if step.skipped else 0", "0"),
        ("arguments are checked late", "    return _train(training", "    yield from _train(training"),
        ("evaluation leaves its mode behind", "module.training = mode", "pass"),
        ("evaluation with dropout", "        model.eval()\n", ""),
        (
            "logits in the order of the batches",
            "rows[index] for index in sorted(rows)",
            "rows[index] for index in rows",
        ),
    ),
    *faults(
        "optim.py",
        "lesson/test_optim",
        ("everything decays", '("no decay", vectors, 0.0)', '("no decay", vectors, weight_decay)'),
        ("frozen parameters are trained", " if parameter.requires_grad]", "]"),
        ("no warm-up", "if updates < self.warmup:", "if False:"),
        (
            "the decay starts before the warm-up ends",
            "(total - update) / max(1, total - warmup)",
            "(total - update) / max(1, total)",
        ),
        (
            "a cosine that rises again",
            "min(1.0, (update - warmup) / max(1, total - warmup))",
            "(update - warmup) / max(1, total - warmup)",
        ),
    ),
    *faults(
        "workbench/runs",
        "workbench/runs/test_session",
        ("every metric is better higher", "1 if watched.higher_is_better else -1", "1"),
        ("the loss does not decide", "(sign * value, -loss) > (", "(sign * value, 0.0) > ("),
        ("the last epoch's weights stay", "model.load_state_dict(state.best_weights)", "pass"),
        ("patience has no end", "history.epochs_without_gain >= patience", "False"),
    ),
]
