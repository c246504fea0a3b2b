"""Whether what a site measured in stage shadow speaks for leaving it: the local acceptance report that such a settings override carries.

The rule is fixed here, before anybody looks at a site's figures. It says what is known and what is not; a person may go on against it,
and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIN_WORDS = 100
"""Studies of which a reader said what they found before AI's result was shown: fewer say little of this site."""
MIN_SICK = 20
"""Of these, with the finding: fewer leave sensitivity anywhere."""
FLOORS = {"sensitivity": 0.8, "specificity": 0.5}
"""A figure whose whole 95 % interval lies below its floor speaks against raising here."""
MAX_UNSCORED = 0.5


def acceptance(board: Mapping[str, Any], *, local_calibration: bool) -> dict[str, Any]:
    """The report, as JSON: `said` what was measured, `faults` what speaks against leaving shadow; none is advised against without any.

    `board`: the board of the last days (`dashboard.board`). `local_calibration`: the one in force was made on this site's own cases.
    """
    words = board["words"]["blinded"]
    sick, well = words["sensitivity"]["of"], words["specificity"]["of"]
    said = [
        f"{sick + well} studies with a finding said before AI's result was shown, {sick} with pneumonia, from {board['from'][:10]} on",
        f"sensitivity {_told(words['sensitivity'])}, specificity {_told(words['specificity'])}, "
        f"positive predictive value {_told(words['ppv'])}",
        f"not scored {_told(board['not_scored'])}",
        "the calibration in force was made on this site's own cases" if local_calibration else "no local calibration is in force",
    ]
    few = f"{sick + well} of {MIN_WORDS} studies have a finding that was said before AI's result was shown"
    faults = [
        few if sick + well < MIN_WORDS else "",
        f"{sick} of {MIN_SICK} studies with pneumonia are among them" if sick < MIN_SICK else "",
        *(f"{name} is below {floor:.2f}: {_told(words[name])}" for name, floor in FLOORS.items() if _below(words[name], floor)),
        f"most studies are not scored: {_told(board['not_scored'])}" if _above(board["not_scored"], MAX_UNSCORED) else "",
        *(f"{name} is not known: {words[name]['why']}" for name in FLOORS if words[name].get("why") and sick + well >= MIN_WORDS),
        "" if local_calibration else "the threshold is that of another hospital: recalibrate on local cases",
    ]
    return {"said": said, "faults": [fault for fault in faults if fault]}


def stands_against(effect: Mapping[str, Any]) -> list[str]:
    """What a settings override's acceptance report says against leaving shadow; an override without one has nothing that speaks for it."""
    found = effect.get("acceptance")
    return ["no acceptance report was made when it was proposed"] if found is None else list(found["faults"])


def _told(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "not known"
    return f"{share['value']:.2f} (95 % {share['low']:.2f} to {share['high']:.2f}, n = {share['of']})"


def _below(share: Mapping[str, Any], floor: float) -> bool:
    return share["value"] is not None and bool(share["high"] < floor)


def _above(share: Mapping[str, Any], ceiling: float) -> bool:
    return share["value"] is not None and bool(share["low"] > ceiling)
