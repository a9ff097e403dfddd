"""The widgets that change a multiset: a row for each different part, and buttons for all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape

from bokeh.layouts import column, row
from bokeh.models import Button, Column, Div, RadioButtonGroup, Row, Spinner

from compvae_fast.models import CompVAE

from .distribution import multiset_of
from .multiset import MOST, Multiset, Part

BUTTONS = """
.bk-btn { border: 1px solid #d6d3d1; background: #fff; border-radius: 6px; font: inherit; color: #292524;
          padding: 0 .3rem; height: 30px; width: 100%; }
.bk-btn.bk-active { background: #ffedd5; border-color: #c2410c; }
.bk-btn:hover { background: #fff7ed; border-color: #c2410c; }
.bk-btn-group { width: 100%; }
"""
_INPUTS = """
input.bk-input { border-radius: 6px; height: 30px; text-align: right; font: inherit;
                 font-variant-numeric: tabular-nums; }
"""
_LABELS = """
.bk-clearfix { font-size: 13px; line-height: 30px; white-space: nowrap; }
i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; border: 1px solid #a8a29e;
    vertical-align: -.05em; margin-right: .4em; }
"""
RANDOM = 8


class Controls:
    """What the visitor changes the multiset with.

    Args:
        model: whose labels and features the parts have.
        changed: called with no argument after each change.

    Attributes:
        multiset: what has been put together.
        root: the widgets.
    """

    def __init__(self, model: CompVAE, changed: Callable[[], object]) -> None:
        self.model, self.problem, self.changed = model, model.problem, changed
        self.multiset = multiset_of(model, self.problem.example())
        self._drawn = 0
        self._writes = False
        longest = max(len(self._label_name(label)) for label in self._labels())
        self._name_width = 64 if longest <= 8 and not self.problem.features else 116
        self.spinners: dict[Part, Spinner] = {}
        self._listed: dict[Part, Row] = {}
        self.rows = column()
        every = {
            "repeat all": lambda: self.multiset.repeated(2),
            "halve all": lambda: self.multiset.halved(),
            f"{RANDOM} random": self._random,
            "clear": lambda: self.multiset.cleared(),
        }
        buttons = [self._button(text, step, text, 79) for text, step in every.items()]
        self.root: Column = column(*self._adding(), self.rows, row(*buttons))
        self._list()

    def change(self, multiset: Multiset) -> None:
        """Have another multiset."""
        self.multiset = multiset
        self._list()
        self.changed()

    def place(self, *features: float) -> None:
        """One part more of the chosen label with these features, at the nearest place that may be."""
        low, high = self.problem.feature_range
        here = tuple(round(min(max(value, low), high), 2) for value in features)
        self.change(self.multiset.add(Part(self._labels()[self.chosen.active], here)))

    def _labels(self) -> range:
        first = self.model.config.first_label
        return range(first, first + self.model.config.num_labels)

    def _random(self) -> Multiset:
        self._drawn += 1
        labels = self._labels()[0], self._labels()[-1]
        asked = self.problem.describe(1, RANDOM, k_min=RANDOM, k_per_batch=1, seed=self._drawn, labels=labels)
        return multiset_of(self.model, asked)

    def _adding(self) -> list[Column | Row | RadioButtonGroup]:
        """The widgets that put in a part that is not yet listed, where parts have features."""
        names = [self._label_name(label) for label in self._labels()]
        self.chosen = RadioButtonGroup(labels=names, active=0, width=360, stylesheets=[BUTTONS], name="chosen")
        if not self.problem.features:
            return []
        low, high = self.problem.feature_range
        fields = [
            Spinner(value=0, low=low, high=high, step=0.05, width=110, title=name, stylesheets=[_INPUTS], name=name)
            for name in self.problem.feature_names
        ]
        add = Button(label="add", width=78, stylesheets=[BUTTONS], name="add", align="end")
        add.on_click(lambda: self.place(*(field.value or 0.0 for field in fields)))
        return [self.chosen, row(*fields, add)]

    def _list(self) -> None:
        """Bring the rows up to date: those that stay are kept, so that a field being typed in is not lost."""
        self._writes = True
        for part in set(self._listed) - set(self.multiset.parts):
            del self._listed[part], self.spinners[part]
        for part, count in zip(self.multiset.parts, self.multiset.counts):
            if part not in self._listed:
                self._listed[part] = self._row(part)
            self.spinners[part].value = count
        listed = [self._listed[part] for part in self.multiset.parts]
        if listed != self.rows.children:
            self.rows.children = listed
        self._writes = False

    def _row(self, part: Part) -> Row:
        spinner = Spinner(
            value=self.multiset.count(part), low=0, high=MOST, step=1, mode="int", width=100, stylesheets=[_INPUTS],
            name="-".join(map(str, ("count", part.label, *part.features))),
        )
        spinner.on_change("value", partial(self._typed, part))
        self.spinners[part] = spinner
        steps = {
            "−": lambda: self.multiset.add(part, -1),
            "+": lambda: self.multiset.add(part),
            "×10": lambda: self.multiset.put(part, 10 * self.multiset.count(part)),
        }
        less, more, times = (self._button(text, step, f"{text}{spinner.name}", 44) for text, step in steps.items())
        name = Div(text=self._name(part), width=self._name_width, stylesheets=[_LABELS])
        return row(name, less, spinner, more, times)

    def _label_name(self, label: int) -> str:
        first, last = self.problem.labels
        # a model of fewer labels than the problem takes several of them as one
        all_of_them = len(self._labels()) == last - first + 1
        return self.problem.label_name(label) if all_of_them else f"label {label}"

    def _name(self, part: Part) -> str:
        """What a part is called beside its count."""
        name = escape(self._label_name(part.label))
        if colour := self.problem.label_colour(part.label):
            name = f'<i style="background: {colour}" title="{name}"></i>'
        at = ", ".join(f"{value:.2f}" for value in part.features)
        return f"{name}{at}".replace("-", "−")

    def _typed(self, part: Part, _name: str, _old, new) -> None:
        if not self._writes:
            self.change(self.multiset.put(part, new or 0))

    def _button(self, text: str, step: Callable[[], Multiset], name: str, width: int) -> Button:
        button = Button(label=text, width=width, stylesheets=[BUTTONS], name=name)
        button.on_click(lambda: self.change(step()))
        return button
