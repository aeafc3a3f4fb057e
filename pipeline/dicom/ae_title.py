"""Read an AE title from bytes in one way, wherever the bytes came from."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def ae_title(value: bytes) -> str:
    """Return the AE title in `value`, "" where there is none.

    A value ends at the first NUL, as it does for programs written in C, or at the first other control
    character: senders fill the 16 bytes from a buffer that still holds what was there before. Blanks around it
    are padding (PS3.5 table 6.2-1). Letters beyond ASCII are no AE title by the standard; they are read as
    UTF-8 where they are that, else as Latin-1, and what cannot be printed becomes `?`.
    """
    value = value.partition(b"\0")[0].strip(b" \t\r\n")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = _CONTROL.split(text, maxsplit=1)[0].strip()
    return "".join(character if character.isprintable() else "?" for character in text)
