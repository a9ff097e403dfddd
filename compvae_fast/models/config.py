"""What a CompVAE is built from, as plain values that can be stored beside its weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..data import problems
from . import sequential
from .networks import KINDS

INFERENCES = ("graph", "diagonal", *sequential.KINDS)


@dataclass(frozen=True)
class CompVAEConfig:
    """Everything ``CompVAE.from_config`` needs; JSON-serialisable by ``to_dict``.

    Args:
        preset: the name it started from, kept for the record.
        problem: what the wholes are, a name of ``data.problems()``.
        network: "tables" and "tables2d" (the paper's tables 1 to 6 and 7 to 12), "compact" (ours, for curves), "slots"
            (ours, for dots), "neighbourhood" (ours, for households) or "curves" (the thesis's, for households).
        observation: "gaussian" or "logistic" (discretized), of "tables2d".
        levels: how often a curve is halved by its hierarchical observation ("neighbourhood" only).
        residuals: residual layers of the decoder ("neighbourhood" only).
        hidden_context: the networks are not told the external factors (networks for households only; thesis table 9.1).
        aggregation: None, or "saturating" for w~ / (1 + gamma |w~|) with gamma learned (thesis eq. 9.16).
        coupling: "unit" (paper eq. 6) or "scaled" (thesis eq. 9.6).
        released: GraphBlocks in the order of the authors' released code ("tables" and "tables2d" only).
        inference: q({w_i}|..) of "tables" and "tables2d": "graph" (paper eq. 5), "diagonal" (the same with rho = 0);
            of "tables" also "recurrent" or "running_sum" (thesis eqs. 9.4, 9.5).
        graph_layers: GraphBlocks of "graph" and "diagonal".
        graph_context: whether what is known of the whole enters every GraphBlock (thesis eq. 9.14), or the first alone.
        narrow: divides every width of the paper's tables but w_dim and z_dim, for studies on small machines.
        w_dim, z_dim: widths of each part's latent and of the whole's own.
        hidden: width of the hidden layers (not of the paper's tables).
        first_label, num_labels: labels are first_label .. first_label + num_labels - 1.
        sigma_min: smallest standard deviation of a learned Gaussian.
        observation_floor: smallest standard deviation of x / K ("compact") or scale of the logistics ("slots").
        closed_scale: prior deviation of the coordinates that are another label's or slot's, initially ("compact") or
            fixed ("slots").
        radial_flow: a RadialFlow of each label's block of coordinates between w~ and the decoder ("compact" only).
        w_weight, w_until: the objective's weight of the parts' divergence rises linearly from
            ``w_weight`` to 1 over the first ``w_until`` of training.
        z_weight, z_until: the same for z's divergence (falling where z_weight > 1).
        path_gradients: the objective takes its divergences from the sample, with gradients through the sample
            alone (thesis eq. 4.4), instead of closed forms; the reported losses stay as they are.
        generation_weight: weight in the objective of the energy score of generated wholes (``CompVAE.energy_score``),
            taken over the first ``generation_sets`` sets of a batch, in training mode alone, once ``generation_from``
            of the training is done.
    """

    preset: str = "sines"
    problem: str = "sines"
    network: str = "tables"
    observation: str = "gaussian"
    coupling: str = "unit"
    released: bool = False
    inference: str = "graph"
    graph_layers: int = 3
    graph_context: bool = False
    narrow: int = 1
    w_dim: int = 1024
    z_dim: int = 256
    hidden: int = 256
    first_label: int = 1
    num_labels: int = 10
    sigma_min: float = 0.001
    observation_floor: float = 0.05
    closed_scale: float = 0.01
    radial_flow: bool = False
    w_weight: float = 1.0
    w_until: float = 0.0
    z_weight: float = 1.0
    z_until: float = 0.0
    path_gradients: bool = False
    generation_weight: float = 0.0
    generation_sets: int = 64
    generation_from: float = 0.0
    aggregation: str | None = None
    levels: int = 0
    residuals: int = 1
    hidden_context: bool = False

    def __post_init__(self) -> None:
        for name, known in (("problem", problems()), ("network", KINDS), ("inference", INFERENCES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.observation not in ("gaussian", "logistic"):
            raise ValueError(f"observation: expected 'gaussian' or 'logistic', got {self.observation!r}")
        if self.network not in ("tables", "tables2d") and (self.inference != "graph" or self.graph_context):
            raise ValueError(f"inference, graph_context: expected 'graph' and False, got another for {self.network!r}")
        if self.aggregation not in (None, "saturating"):
            raise ValueError(f"aggregation: expected None or 'saturating', got {self.aggregation!r}")
        if self.coupling not in ("unit", "scaled"):
            raise ValueError(f"coupling: expected 'unit' or 'scaled', got {self.coupling!r}")
        for name in ("w_dim", "z_dim", "hidden", "num_labels", "generation_sets", "graph_layers", "narrow"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value!r}")
        for name in ("sigma_min", "observation_floor", "closed_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)!r}")
        for name in ("w_weight", "z_weight", "generation_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)!r}")
        for name in ("w_until", "z_until", "generation_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share of training in [0, 1], got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain, JSON-serialisable values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CompVAEConfig:
        """The inverse of ``to_dict``; an unknown key is a ValueError that names it."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"config: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**values)
