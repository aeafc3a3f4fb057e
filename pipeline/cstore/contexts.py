"""Choose presentation contexts for exactly what a consignment holds (PS3.8 7.1.1.13).

Each context has one transfer syntax, so that the peer's answer concerns that syntax. Every SOP Class whose
instances can be decoded is also offered uncompressed: PS3.5 10.1 asks for it, and it saves a second association.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydicom.uid import UID

from pipeline.cstore.pdu import ProposedContext
from pipeline.model import Item

MOST_CONTEXTS = 128  # Context IDs are the odd numbers of one byte, PS3.8 table 9-13.
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DECODABLE = frozenset(
    {
        IMPLICIT,
        EXPLICIT,
        "1.2.840.10008.1.2.1.99",  # deflated
        "1.2.840.10008.1.2.2",  # big endian
        "1.2.840.10008.1.2.5",  # RLE
        *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
    }
)  # pipeline.dicom.decoding decodes these; importing it here would load the libraries of the decoders.
ACCEPTED = 0  # Result of a context, PS3.8 table 9-18.
_RESULTS = {
    1: "refused it",
    2: "refused it and gave no reason",
    3: "does not take this SOP class",
    4: "does not take this transfer syntax",
}
_FOR_GOOD = {3, 4}
NO_ANSWER = (2, "")

Pair = tuple[str, str]  # abstract syntax, transfer syntax


@dataclass(frozen=True, slots=True)
class ChosenContext:
    """The accepted presentation context in which an instance is sent: its ID and its transfer syntax."""

    context: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class NoContext:
    """The reason why an instance cannot be sent; `for_good` says that the peer will never accept it."""

    code: str
    message: str
    for_good: bool


@dataclass(slots=True)
class AssociationGroup:
    """Instances whose presentation contexts fit into one association."""

    contexts: dict[Pair, int] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    @property
    def proposals(self) -> list[ProposedContext]:
        """Return the presentation contexts to propose for the instances."""
        return [ProposedContext(number, *pair) for pair, number in self.contexts.items()]

    def takes(self, item: Item) -> bool:
        """Add the instance if its contexts fit; return whether it was added."""
        new = [pair for pair in pairs_of(item) if pair not in self.contexts]
        if len(self.contexts) + len(new) > MOST_CONTEXTS:
            return False
        for pair in new:
            self.contexts[pair] = 2 * len(self.contexts) + 1
        self.items.append(item)
        return True

    def context_for(self, item: Item, answers: Mapping[int, tuple[int, str]]) -> ChosenContext | NoContext:
        """Return the first accepted context of the instance, or NoContext; to send it unchanged is preferred.

        `answers` maps each context ID to its result (PS3.8 table 9-18) and transfer syntax.
        """
        pairs = pairs_of(item)
        results = []
        for pair in pairs:
            number = self.contexts[pair]
            result, accepted = answers.get(number, NO_ANSWER)
            if result == ACCEPTED and accepted == pair[1]:
                return ChosenContext(number, pair[1])
            results.append(NO_ANSWER[0] if result == ACCEPTED else result)
        return _no_context(item, results)


def groups_of(items: Iterable[Item]) -> list[AssociationGroup]:
    """Distribute instances over associations of at most 128 contexts each; order is kept within each."""
    groups: list[AssociationGroup] = []
    for item in items:
        if not any(group.takes(item) for group in groups):
            groups.append(AssociationGroup())
            groups[-1].takes(item)
    return groups


def pairs_of(item: Item) -> list[Pair]:
    """Return the contexts in which an instance can be sent: unchanged first, then uncompressed if decodable."""
    syntaxes = [item.transfer_syntax_uid]
    if item.transfer_syntax_uid in DECODABLE:
        syntaxes += [EXPLICIT, IMPLICIT]
    return [(item.sop_class_uid, syntax) for syntax in dict.fromkeys(syntaxes)]


def _no_context(item: Item, results: list[int]) -> NoContext:
    first = results[0]
    why = _RESULTS.get(first, f"refused it with result {first}")
    what = f"{name_of(item.sop_class_uid)} in {name_of(item.transfer_syntax_uid)}"
    if len(results) > 1:
        what += ", nor uncompressed"
    elif item.transfer_syntax_uid not in DECODABLE:
        what += ", which cannot be decoded here"
    return NoContext(f"context result {first}", f"the peer {why}: {what}", for_good=set(results) <= _FOR_GOOD)


def name_of(uid: str) -> str:
    """Return the name of a UID, or the UID itself if it has no name."""
    return UID(uid).name
