"""What a supplier knows of a household: contract, subscribed power and off-peak group, as one label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Contract:
    """One label l_i.

    Args:
        kind: "base" (one price) or "offpeak" (cheaper hours).
        kva: subscribed power, kVA; a household's half-hourly mean power never exceeds it (at a power factor of 1).
        group: off-peak group "A", "B" or "C"; "" for the base contract.
        share: of all households.
        heated, boiler, car: chances of electric heating, a storage water heater and an electric car.
        persons: chances of 1 to 5 persons.
    """

    kind: str
    kva: int
    group: str
    share: float
    heated: float
    boiler: float
    car: float
    persons: tuple[float, float, float, float, float]

    @property
    def name(self) -> str:
        """As shown in reports: "base 6 kVA", "offpeak A 9 kVA"."""
        return f"{self.kind} {self.group + ' ' if self.group else ''}{self.kva} kVA"


# Begin and length of each group's cheaper hours, in hours from midnight; the longer spell is the first.
OFF_PEAK = {"A": ((22.5, 8.0),), "B": ((23.5, 8.0),), "C": ((1.0, 6.0), (12.5, 2.0))}
_GROUP_SHARES = {"A": 0.4, "B": 0.35, "C": 0.25}
_ALONE = (0.78, 0.2, 0.02, 0.0, 0.0)
_SMALL = (0.42, 0.36, 0.12, 0.08, 0.02)
_MIDDLE = (0.18, 0.38, 0.19, 0.18, 0.07)
_LARGE = (0.1, 0.33, 0.2, 0.25, 0.12)

CONTRACTS: tuple[Contract, ...] = (
    Contract("base", 3, "", 0.10, 0.10, 0.10, 0.0, _ALONE),
    Contract("base", 6, "", 0.34, 0.18, 0.15, 0.0, _SMALL),
    Contract("base", 9, "", 0.09, 0.40, 0.20, 0.03, _MIDDLE),
    Contract("base", 12, "", 0.03, 0.50, 0.20, 0.05, _LARGE),
    *(
        Contract("offpeak", kva, group, share * part, heated, 0.85, car, persons)
        for kva, share, heated, car, persons in (
            (6, 0.18, 0.35, 0.0, _SMALL),
            (9, 0.18, 0.60, 0.05, _MIDDLE),
            (12, 0.08, 0.70, 0.10, _LARGE),
        )
        for group, part in _GROUP_SHARES.items()
    ),
)
LABELS = (1, len(CONTRACTS))


def label_of(kind: str, kva: int, group: str = "") -> int:
    """The label of a contract.

    Raises:
        ValueError: a combination that no label has.

    >>> label_of("base", 6), label_of("offpeak", 9, "B")
    (2, 9)
    """
    for label, contract in enumerate(CONTRACTS, start=1):
        if (contract.kind, contract.kva, contract.group) == (kind, kva, group):
            return label
    known = ", ".join(contract.name for contract in CONTRACTS)
    raise ValueError(f"contract: expected one of {known}; got {kind!r}, {kva!r} kVA, group {group!r}")


def column(name: str) -> Tensor:
    """A number of every contract, float32 [13] or [13, 5], to be indexed by labels - 1."""
    return torch.tensor([getattr(contract, name) for contract in CONTRACTS], dtype=torch.float32)
