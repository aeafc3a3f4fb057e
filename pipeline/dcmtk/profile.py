"""storescp's association negotiation profile (`-xf`): the accepted SOP Classes and transfer syntaxes.

storescp refuses `-pm` and `+xa` beside a profile, and 3.6.7 accepts at most 128 presentation contexts.
"""

from collections.abc import Iterable, Sequence

from pipeline.dcmtk.sop_classes import SHIPPED, VERIFICATION, can_be_stored

MOST_CONTEXTS = 128
PROFILE = "Storestow"

_UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")  # Explicit, Implicit VR Little Endian
_LOSSLESS = (
    *(f"1.2.840.10008.1.2.4.{n}" for n in (90, 92, 80, 70, 57, 58, 65, 66)),  # JPEG 2000, JPEG-LS, JPEG
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
)
_LOSSY = (
    *(f"1.2.840.10008.1.2.4.{n}" for n in (91, 93, 81, 50, 51)),  # JPEG 2000 (may be lossless), JPEG-LS, JPEG
    *(f"1.2.840.10008.1.2.4.{n}" for n in (*range(52, 57), *range(59, 65))),  # JPEG, retired
    *(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109)),  # MPEG2, MPEG-4, HEVC
)
# If a sender offers several transfer syntaxes, it gets the first of these. HTJ2K, JPEG XL, JPIP, fragmentable MPEG
# and deflated frames are left out: storescp 3.6.7 negotiates them and then aborts the association.
TRANSFER_SYNTAXES = (*_UNCOMPRESSED, *_LOSSLESS, *_LOSSY)


def profile_text(sop_classes: Iterable[str]) -> str:
    """Return the configuration file that accepts these SOP Classes, each once, in order.

    Raises ValueError for more than 128.
    """
    wanted = list(dict.fromkeys(sop_classes))
    if len(wanted) > MOST_CONTEXTS:
        raise ValueError(f"{len(wanted)} SOP classes are more than {MOST_CONTEXTS} presentation contexts")
    contexts = [f"{uid}\\{'Uncompressed' if uid == VERIFICATION else 'Any'}" for uid in wanted]
    return "\n".join(
        [
            "[[TransferSyntaxes]]",
            "[Uncompressed]",
            *_numbered("TransferSyntax", _UNCOMPRESSED),
            "[Any]",
            *_numbered("TransferSyntax", TRANSFER_SYNTAXES),
            "[[PresentationContexts]]",
            f"[{PROFILE}]",
            *_numbered("PresentationContext", contexts),
            "[[Profiles]]",
            f"[{PROFILE}]",
            f"PresentationContexts = {PROFILE}",
            "",
        ]
    )


def _numbered(key: str, values: Sequence[str]) -> list[str]:
    return [f"{key}{number} = {value}" for number, value in enumerate(values, 1)]


def study_sop_classes(more: Sequence[str]) -> tuple[str, ...]:
    """Return the SOP Classes of study mode: Verification, the site's own, the shipped ones that fit."""
    return tuple(dict.fromkeys((VERIFICATION, *more, *SHIPPED)))[:MOST_CONTEXTS]


def proposed_sop_classes(proposed: Sequence[str]) -> tuple[str, ...]:
    """Return the accepted SOP Classes of a proposal in association mode: Verification and all storage classes.

    An unknown class counts as a private storage class. A known class that is no storage (queries, storage
    commitment) is refused in the negotiation, because storescp would abort the whole association on its first use.
    The result is never empty, because storescp needs at least one context, and never longer than the contexts of
    an association (PS3.8 9.3.2.2).
    """
    accepted = tuple(uid for uid in dict.fromkeys(proposed) if uid == VERIFICATION or can_be_stored(uid))
    return accepted[:MOST_CONTEXTS] or (VERIFICATION,)
