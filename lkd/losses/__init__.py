"""Distillation losses: pure functions first, thin terms that say where to tap second.

All are computed in float32 at least, take the student first, and let no gradient flow into the teacher.
A term weighs the soft loss only; mixing with the student's own loss is the business of what attaches it.
"""

from lkd.losses.boxes import decode_boxes
from lkd.losses.detection import DenseDetection, dense_box_loss, dense_class_loss, localization_loss
from lkd.losses.feature import (
    CWD,
    AttentionTransfer,
    FitNets,
    attention_transfer_loss,
    cwd_loss,
    fitnets_loss,
)
from lkd.losses.logit import DKD, KD, LogitMatching, dkd_loss, kd_loss, logit_matching_loss
from lkd.losses.relation import RKD, SimilarityPreserving, rkd_angle_loss, rkd_distance_loss, sp_loss
from lkd.losses.term import Term

__all__ = [
    "CWD",
    "DKD",
    "KD",
    "RKD",
    "AttentionTransfer",
    "DenseDetection",
    "FitNets",
    "LogitMatching",
    "SimilarityPreserving",
    "Term",
    "attention_transfer_loss",
    "cwd_loss",
    "decode_boxes",
    "dense_box_loss",
    "dense_class_loss",
    "dkd_loss",
    "fitnets_loss",
    "kd_loss",
    "localization_loss",
    "logit_matching_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "sp_loss",
]
