"""Checks for the exercises of the course: is your function right, and if not, which mistake was made?

A check calls your function with small input and compares what it returns with the right answer. If they differ, it
makes the classic mistakes itself, one and two at a time, and names those that give the same. For a mistake that it does
not know, it says with which input, or at which step, your function first departs, and by how much.

    >>> from minibert.study import exercises as check
    >>> check.attention(my_attention)
    Right: shape, numbers, gradients and padding. The largest difference is 2.4e-07 of the largest number.
"""

from minibert.study.exercises.batches import batches_by_length, pack, unpack
from minibert.study.exercises.calibration import calibration_error, rank_by_loss
from minibert.study.exercises.chance import bootstrap_interval, mcnemar
from minibert.study.exercises.checkpoints import from_tensorflow, plan_loading
from minibert.study.exercises.claims import bootstrap_difference, entropy_of_attention, head_importance, leave_one_out
from minibert.study.exercises.confusion import confusion_matrix, macro_f1
from minibert.study.exercises.distilling import distil_name, pieces_per_word, student_from_teacher
from minibert.study.exercises.explaining import contributions, integrated_gradients, lens
from minibert.study.exercises.features import mean_pool, standardise
from minibert.study.exercises.heads import masked_lm_head
from minibert.study.exercises.losses import add_losses, masked_lm_loss, span_loss
from minibert.study.exercises.museum import damage_order, guard, window_loss
from minibert.study.exercises.network import attention, embeddings, layer, self_attention
from minibert.study.exercises.numerics import norm_in_16_bits, spacing, stable_softmax
from minibert.study.exercises.parameter_names import modern_name, official_name
from minibert.study.exercises.pieces import pair, wordpiece, words
from minibert.study.exercises.pretraining import mask_tokens, next_sentence_pairs
from minibert.study.exercises.splits import split
from minibert.study.exercises.traces import attention_distance, patch, tap
from minibert.study.exercises.training import accumulate, adamw_step, scaled_step, schedule
from minibert.study.exercises.verdict import Verdict
from minibert.study.exercises.whole import bert, count_parameters, pooler

__all__ = [
    "Verdict",
    "accumulate",
    "adamw_step",
    "add_losses",
    "attention",
    "attention_distance",
    "batches_by_length",
    "bert",
    "bootstrap_difference",
    "bootstrap_interval",
    "calibration_error",
    "confusion_matrix",
    "contributions",
    "count_parameters",
    "damage_order",
    "distil_name",
    "embeddings",
    "entropy_of_attention",
    "from_tensorflow",
    "guard",
    "head_importance",
    "integrated_gradients",
    "layer",
    "leave_one_out",
    "lens",
    "macro_f1",
    "mask_tokens",
    "masked_lm_head",
    "masked_lm_loss",
    "mcnemar",
    "mean_pool",
    "modern_name",
    "next_sentence_pairs",
    "norm_in_16_bits",
    "official_name",
    "pack",
    "pair",
    "patch",
    "pieces_per_word",
    "plan_loading",
    "pooler",
    "rank_by_loss",
    "scaled_step",
    "schedule",
    "self_attention",
    "spacing",
    "span_loss",
    "split",
    "stable_softmax",
    "standardise",
    "student_from_teacher",
    "tap",
    "unpack",
    "window_loss",
    "wordpiece",
    "words",
]
