"""Distillation losses: pure functions, and thin terms that say which layers they compare.

All are computed in float32 at least, take the student first, and let no gradient flow into the teacher.
A term weights the soft loss only; whatever attaches it adds the student's own loss.
"""

from lkd.losses.box_masks import box_masks
from lkd.losses.boxes import decode_boxes
from lkd.losses.consistency import Consistency, consistency_loss
from lkd.losses.contrast import nce_loss
from lkd.losses.correlation import CorrelationCongruence, cc_loss
from lkd.losses.crd import CRD
from lkd.losses.crd_queue import QueueCRD
from lkd.losses.cross_head import align_statistics, cross_predictions
from lkd.losses.crosskd import CrossKD
from lkd.losses.detection import DenseDetection, dense_box_loss, dense_class_loss, localization_loss
from lkd.losses.dissimilarity import Dissimilarity, dissimilarity_loss
from lkd.losses.dist import DIST, dist_loss
from lkd.losses.divergence import (
    js_divergence,
    kl_divergence,
    multivariate_sed,
    soft_cross_entropy,
    structural_entropic_distance,
    triangular_discrimination,
)
from lkd.losses.dkd import DKD, dkd_loss
from lkd.losses.exits import byot_loss
from lkd.losses.feature import (
    CWD,
    AttentionTransfer,
    FitNets,
    attention_transfer_loss,
    cwd_loss,
    fitnets_loss,
)
from lkd.losses.fgd import FGD
from lkd.losses.focal import focal_loss
from lkd.losses.fsp import FSP, fsp_loss, fsp_matrix
from lkd.losses.logit import KD, LogitMatching, kd_loss, logit_matching_loss
from lkd.losses.mgd import MGD, mask_features, mgd_loss
from lkd.losses.multi_teacher import MultiTeacher, mean_probabilities
from lkd.losses.mutual import mutual_losses
from lkd.losses.nkd import NKD, nkd_loss
from lkd.losses.nst import NST, nst_loss
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.pixel import PixelKD, pixel_kd_loss
from lkd.losses.pkd import PKD, pkd_loss
from lkd.losses.pkt import PKT, pkt_loss
from lkd.losses.relation import RKD, SimilarityPreserving, rkd_angle_loss, rkd_distance_loss, sp_loss
from lkd.losses.review import ReviewKD, hcl_loss
from lkd.losses.sigmoid import SigmoidKD, sigmoid_kd_loss
from lkd.losses.simkd import Projector, ReusedClassifier, SimKD
from lkd.losses.standardized import Standardized, standardize
from lkd.losses.teacher_weights import confidence_weights, entropy_weights
from lkd.losses.term import Term
from lkd.losses.unimodal import agreement_loss, unimodal_loss
from lkd.losses.vid import VID, vid_loss

__all__ = [
    "CRD",
    "CWD",
    "DIST",
    "DKD",
    "FGD",
    "FSP",
    "KD",
    "MGD",
    "NKD",
    "NST",
    "PKD",
    "PKT",
    "RKD",
    "VID",
    "AttentionTransfer",
    "Consistency",
    "CorrelationCongruence",
    "CrossKD",
    "DenseDetection",
    "Dissimilarity",
    "FitNets",
    "LogitMatching",
    "MultiTeacher",
    "PairwiseTerm",
    "PixelKD",
    "Projector",
    "QueueCRD",
    "ReusedClassifier",
    "ReviewKD",
    "SigmoidKD",
    "SimKD",
    "SimilarityPreserving",
    "Standardized",
    "Term",
    "agreement_loss",
    "align_statistics",
    "attention_transfer_loss",
    "box_masks",
    "byot_loss",
    "cc_loss",
    "confidence_weights",
    "consistency_loss",
    "cross_predictions",
    "cwd_loss",
    "decode_boxes",
    "dense_box_loss",
    "dense_class_loss",
    "dissimilarity_loss",
    "dist_loss",
    "dkd_loss",
    "entropy_weights",
    "fitnets_loss",
    "focal_loss",
    "fsp_loss",
    "fsp_matrix",
    "hcl_loss",
    "js_divergence",
    "kd_loss",
    "kl_divergence",
    "localization_loss",
    "logit_matching_loss",
    "mask_features",
    "mean_probabilities",
    "mgd_loss",
    "multivariate_sed",
    "mutual_losses",
    "nce_loss",
    "nkd_loss",
    "nst_loss",
    "pixel_kd_loss",
    "pkd_loss",
    "pkt_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "sigmoid_kd_loss",
    "soft_cross_entropy",
    "sp_loss",
    "standardize",
    "structural_entropic_distance",
    "triangular_discrimination",
    "unimodal_loss",
    "vid_loss",
]
