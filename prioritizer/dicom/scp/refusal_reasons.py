"""Why an association, or a presentation context of it, is refused: sentences that name what was proposed.

What a peer proposed is its own text: it is made printable and cut here, before it reaches a notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prioritizer.dicom.scp.association_pdu import AcceptedContext, AssociationRequest
from prioritizer.dicom.standard import contexts

MAX_CLASSES: Final = 4
"""SOP classes that a sentence names; a router proposes a hundred."""
MAX_SYNTAXES: Final = 4
"""Transfer syntaxes that it names of each."""
_MAX_UID: Final = 64
_NAMES: Final[Mapping[str, str]] = {
    contexts.VERIFICATION: "Verification",
    **{each.uid: each.name for each in (*contexts.RADIOGRAPHS, *contexts.IGNORABLE)},
}
NO_CONTEXT, NO_SYNTAX = "no-context", "no-syntax"


def refused_contexts(
    request: AssociationRequest, accepted: Mapping[int, AcceptedContext], offered: Mapping[str, tuple[str, ...]]
) -> tuple[str, str] | None:
    """A code and a sentence where nothing, or nothing of a SOP class that is taken here, was accepted; None where that is not so.

    A class that is not taken at all is worth a word only where it leaves the association empty: most devices propose everything.
    """
    proposed = _by_class(request)
    if not accepted:
        return NO_CONTEXT, f"none of the proposed SOP classes and transfer syntaxes is accepted: {_listed(proposed, offered)}"
    served = {context.abstract_syntax for context in accepted.values()}
    unserved = {uid: syntaxes for uid, syntaxes in proposed.items() if uid in offered and uid not in served}
    if not unserved:
        return None
    return NO_SYNTAX, f"accepted in part, and nothing for {_listed(unserved, offered)}"


def printable_uid(text: str) -> str:
    """What a peer gave for a UID, cut to 64 characters and harmless to print; it need not be a UID."""
    shown = "".join(letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else "?" for letter in text[:_MAX_UID])
    return (shown or "(empty)") + ("..." if len(text) > _MAX_UID else "")


def _by_class(request: AssociationRequest) -> dict[str, list[str]]:
    """The transfer syntaxes proposed for each SOP class, each once, in the order of the request."""
    found: dict[str, dict[str, None]] = {}
    for proposal in request.contexts:
        found.setdefault(proposal.abstract_syntax, {}).update(dict.fromkeys(proposal.transfer_syntaxes))
    return {uid: list(syntaxes) for uid, syntaxes in found.items()}


def _listed(proposed: Mapping[str, list[str]], offered: Mapping[str, tuple[str, ...]]) -> str:
    # Classes that would be taken come first: theirs is the syntax that somebody can change at the device.
    ordered = sorted(proposed, key=lambda uid: uid not in offered)
    said = [_one(uid, proposed[uid], known=uid in offered) for uid in ordered[:MAX_CLASSES]]
    return "; ".join(said + _more(len(ordered) - MAX_CLASSES))


def _one(sop_class: str, syntaxes: list[str], *, known: bool) -> str:
    shown = [_syntax(syntax) for syntax in syntaxes[:MAX_SYNTAXES]] + _more(len(syntaxes) - MAX_SYNTAXES)
    name = _NAMES.get(sop_class)
    head = f"{name} ({sop_class})" if name else printable_uid(sop_class)
    why = "no such transfer syntax is accepted" if known else "the SOP class is not accepted"
    return f"{head} in {', '.join(shown) or 'no transfer syntax'} ({why})"


def _syntax(uid: str) -> str:
    known = contexts.SYNTAX_BY_UID.get(uid)
    return f"{known.name} ({uid})" if known else printable_uid(uid)


def _more(number: int) -> list[str]:
    return [f"and {number} more"] if number > 0 else []
