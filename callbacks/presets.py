"""Distillation presets: one callback for each family of knowledge, with its usual loss and weights."""

from typing import Literal, get_args

from lkd.batches import Keys
from lkd.callbacks.distillation import Distillation
from lkd.checks import expect
from lkd.losses import (
    CWD,
    DIST,
    DKD,
    KD,
    NKD,
    RKD,
    AttentionTransfer,
    Dissimilarity,
    FitNets,
    LogitMatching,
    MultiTeacher,
    SimilarityPreserving,
    Standardized,
    Term,
)
from lkd.teachers import Ensemble, Teacher

Response = Literal["kd", "logit_matching", "dkd", "dist", "nkd", "ce", "js", "triangular", "sed", "msed"]


class LogitDistillation(Distillation):
    """Response knowledge: `L = alpha L_student + (1 - alpha) L_KD` (Hinton et al. 2015, section 2).

    Args:
        teacher: The frozen teacher. The predictions of an `Ensemble` are averaged; for other combinations
            give `Distillation` a term `MultiTeacher`.
        alpha: Weight of the hard-label loss, between 0 (teacher alone, no labels) and 1. Default 0.1.
        temperature: Softens both distributions. Default 4, and 1 for `"dist"` and `"nkd"`, as in their
            papers.
        loss: `"kd"` (T^2 KL), `"logit_matching"` (its limit for high T; the temperature is not used), `"dkd"`
            (decoupled, Zhao et al. 2022; needs labels), `"dist"` (correlations, Huang et al. 2022), `"nkd"`
            (normalized, Yang et al. 2023; needs labels), or a dissimilarity in place of KL: `"ce"`, `"js"`,
            `"triangular"`, `"sed"` or `"msed"` (Molo et al. 2024).
        standardize: Whether both logits are standardized first (Sun et al. 2024). Default no.
        student_layer: Layer whose outputs are the student's logits; `""` is the module's own forward.
            Where several layers run in its place, `student_input` is needed too.
        teacher_layer: Layer whose outputs are the teacher's logits; `""` is the teacher's own output.
        label_key: Key or index of the labels in the batch, for `"dkd"` and `"nkd"`.
        student_input: As in `Distillation`.
        input_key: As in `Distillation`: what of the batch the teacher is given in place of the student's own
            call.
        student_key: As in `Distillation`, for `alpha=0`.

    Raises:
        TypeError: If the teacher is no `Teacher`.
        ValueError: If alpha is not in [0, 1].

    Example:
        >>> from torch import nn
        >>> LogitDistillation(Teacher(nn.Linear(4, 3)), alpha=0.1, temperature=4.0).distiller.own.alpha
        0.1
    """

    def __init__(
        self,
        teacher: Teacher,
        alpha: float = 0.1,
        temperature: float | None = None,
        loss: Response = "kd",
        student_layer: str = "",
        teacher_layer: str = "",
        label_key: str | int = 1,
        student_input: str = "",
        standardize: bool = False,
        input_key: Keys | None = None,
        student_key: Keys | None = None,
    ) -> None:
        expect(alpha=alpha, ge=0, le=1, why="it weights the hard-label loss")
        if temperature is None:
            temperature = 1.0 if loss in ("dist", "nkd") else 4.0
        term: Term
        match loss:
            case "kd":
                term = KD(temperature)
            case "logit_matching":
                term = LogitMatching()
            case "dkd":
                term = DKD(temperature)
            case "dist":
                term = DIST(temperature)
            case "nkd":
                term = NKD(temperature)
            case "ce" | "js" | "triangular" | "sed" | "msed":
                term = Dissimilarity(loss, temperature)
            case _:
                raise ValueError(f"loss={loss!r} must be one of {', '.join(map(repr, get_args(Response)))}.")
        if isinstance(teacher, Ensemble) and loss != "msed":  # which takes all teachers by itself
            term = MultiTeacher(term, "logits" if loss == "logit_matching" else "probabilities")
        if standardize:
            term = Standardized(term)
        term.weight, term.student_layer, term.teacher_layer = 1 - alpha, student_layer, teacher_layer
        super().__init__(teacher, [term], alpha, student_input, input_key, label_key, student_key)


class FeatureDistillation(Distillation):
    """Feature knowledge: the student's layers imitate the teacher's.

    Args:
        teacher: The frozen teacher.
        layers: Student layer -> teacher layer.
        loss: `"fitnets"` (Romero et al. 2015), `"at"` (attention transfer, Zagoruyko
            and Komodakis 2017) or `"cwd"` (channel-wise, Shu et al. 2021). Where channels
            differ, `"fitnets"` and `"cwd"` learn an adapter.
        weight: Weight of the feature loss. Default: the usual 100, 1000 or 10. These are values for large
            networks. On a small one, start with 1 and look at the logs: the feature loss drowns the student's
            own loss if `weight * distillation/<loss>` is far above it.
        alpha: Weight of the student's own loss. Default 1.
        student_input: As in `Distillation`.
        input_key: As in `Distillation`: what of the batch the teacher is given in place of the student's own
            call.
        student_key: As in `Distillation`, for `alpha=0`.

    Raises:
        TypeError: If the teacher is no `Teacher`, or layers is no dict.
        ValueError: If a layer does not exist; similar names are suggested.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3))
        >>> _ = FeatureDistillation(Teacher(net), layers={"net.0": "0"}, loss="cwd", weight=10.0)
    """

    def __init__(
        self,
        teacher: Teacher,
        layers: dict[str, str],
        loss: Literal["fitnets", "at", "cwd"] = "fitnets",
        weight: float | None = None,
        alpha: float = 1.0,
        student_input: str = "",
        input_key: Keys | None = None,
        student_key: Keys | None = None,
    ) -> None:
        kinds: dict[str, type[Term]] = {"fitnets": FitNets, "at": AttentionTransfer, "cwd": CWD}
        usual = {"fitnets": 100.0, "at": 1000.0, "cwd": 10.0}
        expect(loss=loss, among=kinds)
        if not isinstance(layers, dict):
            raise TypeError(
                f"layers={layers!r} must map layers of the student to the teacher's: {{'body.4': 'body.4'}}; for a "
                "list of losses take Distillation."
            )
        if not layers:
            raise ValueError("layers={} names no layer; give student layer: teacher layer.")
        weight = usual[loss] if weight is None else weight
        term = kinds[loss](weight=weight, student_layer=list(layers), teacher_layer=list(layers.values()))
        super().__init__(teacher, [term], alpha, student_input, input_key=input_key, student_key=student_key)


class RelationDistillation(Distillation):
    """Relation knowledge: how similar the samples of a batch are to each other.

    Args:
        teacher: The frozen teacher.
        student_layer: Layer whose output is the student's embedding `(B, ...)`.
        teacher_layer: Layer whose output is the teacher's; the sizes may differ.
        loss: `"rkd"` (distances and angles, Park et al. 2019) or `"sp"` (similarity-preserving, Tung and Mori
            2019; weight 3000 is usual).
        weight: Weight of the relation loss. Default 1.
        alpha: Weight of the student's own loss. Default 1.
        student_input: As in `Distillation`.
        input_key: As in `Distillation`: what of the batch the teacher is given in place of the student's own
            call.
        student_key: As in `Distillation`, for `alpha=0`.

    Example:
        >>> from torch import nn
        >>> _ = RelationDistillation(Teacher(nn.Linear(4, 3)), student_layer="", loss="sp", weight=3000.0)
    """

    def __init__(
        self,
        teacher: Teacher,
        student_layer: str = "",
        teacher_layer: str = "",
        loss: Literal["rkd", "sp"] = "rkd",
        weight: float = 1.0,
        alpha: float = 1.0,
        student_input: str = "",
        input_key: Keys | None = None,
        student_key: Keys | None = None,
    ) -> None:
        kinds: dict[str, type[Term]] = {"rkd": RKD, "sp": SimilarityPreserving}
        expect(loss=loss, among=kinds)
        term = kinds[loss](weight=weight, student_layer=student_layer, teacher_layer=teacher_layer)
        super().__init__(teacher, [term], alpha, student_input, input_key=input_key, student_key=student_key)
