"""Which blocks of a page are its main text.

Comes in: a page's tree. Goes out: the leaves (tree.separate) that belong to the main text, in reading order.
Does not know: Markdown, metadata beside the title and the description.

trafilatura, the best published extractor, names the text; it loses structure and order at times, and leads, headings
and code blocks more often. So its text is only laid over the page's own blocks to choose among them, and the blocks
are then judged once more by what surrounds them: gaps are filled, the lead is taken in, and what sites add to every
article (sharing, subscriptions, recommendations, notices) goes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import trafilatura
from lxml.html import HtmlElement as Element
from trafilatura.settings import Extractor

from services.crawler.extract.tree import HEADINGS, INVISIBLE, hidden, remove, text_of

# ── What every site adds ────────────────────────────────────────────────────────────────────────────

_END = r"(?:[\s_-]|$)"
_CHROME = re.compile(
    r"(?:^|[\s_-])(?:"
    + "|".join(
        [
            # sharing, and what else calls for a click
            rf"(?:social|share|sharing|sharedaddy|sharebar|shariff|addtoany|addthis){_END}",
            r"(?:share|social)[_-]?(?:bar|box|button|icon|link|list|media)",
            r"newsletter|subscribe|subscription[_-]?(?:box|form|widget)|sign-?up|paywall|mailchimp|mc4wp",
            r"cookie|consent|gdpr",
            r"likes?-(?:post|widget)|ratings?|loading|login(?:[\s_-]?(?:form|box))?(?:\s|$)",
            # other articles
            r"related|recommend(?:ed|ations?)|rec-posts?|yarpp|jp-relatedposts|outbrain|taboola|plista",
            r"more-(?:from|on|posts|stories|news|articles)|also-like|see-?also|most-(?:read|popular|viewed)",
            # readers' comments
            r"comments?(?:[\s_-]?(?:area|box|form|list|section|wrap|wrapper|thread))?(?:\s|$)",
            r"commentlist|disqus|respond(?:\s|$)",
            # ways through the site
            rf"breadcrumbs?|crumbs?{_END}|pagination|pager(?:\s|$)|skip-?link|page-?nav|post-?nav(?:igation)?",
            r"nav-?links?",
            r"post-?tags?|tag-?list|tag-?cloud|tags(?:\s|$)|cat-?links",
            r"edit-?(?:link|section)|mw-editsection|headerlink|anchor-?link|copy-?(?:button|btn|code)",
            r"sphinxsidebar|(?:table-of-contents|toc)(?:[\s_-]|$)",
            # the author's box, rights, advertisements
            r"author-?(?:box|bio|card|info|profile)|about-?author|copyright|trust-?badge",
            rf"(?:ad|ads|adsense|advert|advertisement|advertising|anzeige|werbung|sponsor|sponsored|promo|promotion){_END}",
            # not for the screen, or not for readers
            r"screen-reader-text|sr-only|visually-?hidden|robots-nocontent|noprint|no-print|d-print-none|print-hide",
        ]
    )
    + ")",
    re.IGNORECASE,
)
"""In a class or an id: names that sites give to what stands around an article."""
_NEVER = frozenset(str.split("nav aside footer"))
_PROTECTED = frozenset(str.split("html body main article"))
_CHROME_SHARE = 0.25
"""Of a page's text in sentences: a container that holds more is not taken away for its name alone."""

_CALLS = re.compile(
    r"^\W*(?:"
    + "|".join(
        [
            # English
            r"(?:click|tap) here to\b|sign ?(?:up|in)\b|log ?in\b|subscribe\b|share (?:this|on)\b|skip to\b",
            r"advertisement\b",
            r"follow (?:us|me|the|@)|like us on|join (?:us|our)\b|open in app",
            r"get (?:the|our) .{0,40}(?:app|edition|newsletter)",
            r"read (?:more|also|next)\b|see also\b|more (?:on|from|about)\b.{0,60}$|related\b.{0,30}:",
            r"recommended\b.{0,30}$",
            r"you (?:may|might) also (?:like|enjoy)|continue reading\b|leave a (?:comment|reply)\b",
            r"for (?:the )?(?:latest|more) .{0,60}(?:follow|download|subscribe|sign up)",
            r"to (?:view|read) the (?:full|whole|rest)|(?:first-time|already a|new) subscribers?\b",
            r"if you.{0,60}already a subscriber",
            # German
            r"abonnieren\b|(?:jetzt|hier) (?:abonnieren|anmelden|registrieren|lesen|kostenlos)|folgen? (?:sie )?uns",
            r"(?:artikel )?teilen\b|lesen sie (?:auch|hier|mehr|dazu)|lies auch|mehr zum thema|zum thema\b",
            r"auch interessant",
            r"das könnte (?:sie|dich|ihnen) auch|empfohlene|ähnliche (?:artikel|beiträge)",
            r"weitere (?:artikel|beiträge|nachrichten)",
            r"anzeige\b|werden sie mitglied|wird geladen|nach oben",
            # French, Spanish, Portuguese, Italian, Dutch, Polish
            r"(?:à )?lire aussi|voir aussi|abonnez-vous|suivez-nous|inscrivez-vous|partage[rz]\b",
            r"lea también|leer? más|te puede interesar|suscríb|síguenos|únete|compart(?:e|ir)\b|leia (?:também|mais)",
            r"siga-nos",
            r"¿?ya sabías que .{0,60}(?:telegram|whatsapp)|leggi anche|iscriviti|seguici|lees (?:ook|meer)|volg ons",
            r"czytaj (?:też|także|więcej)|zobacz (?:też|także)",
            # rights
            r"copyright\b|©|\(c\) ?\d{4}|all rights reserved|alle rechte vorbehalten|tous droits réservés",
        ]
    )
    + ")",
    re.IGNORECASE,
)
"""How lines begin that call the reader away, or that belong to the site: judged in short blocks only."""
_LABEL = re.compile(
    r"^\W*(?:sign (?:up|in)|get (?:the )?app|open in app|write|follow(?:ing)?|share|listen|save|copy(?: link)?|facebook"
    r"|twitter|linkedin|e-?mail|more|other|member-only story|subscribe|print|comments?|reply|published in"
    r"|\d+ (?:min|minutes?) read)\W*$",
    re.IGNORECASE,
)
"""Blocks that are nothing but a button's or a counter's label."""
_CALL_LENGTH = 200
_CREDIT = re.compile(
    r"^\W*(?:foto|photo|bild|image|picture|crédits? ?photos?|bildquelle|credit)s?\b[^.]{0,60}[:©/][^.]{0,80}$"
    r"|^\W*(?:copyright|©)",
    re.IGNORECASE,
)


_CAPTION = re.compile(r"caption|credit|legend|bildunterschrift|copyright", re.IGNORECASE)


_GUTTER = re.compile(
    r"(?:^|[\s_-])(?:gutter|line-?nos?|line-?numbers?(?:-rows)?|linenodiv|ln|lnt|lntd|blob-num|hljs-ln-numbers)(?:[\s_-]|$)",
    re.IGNORECASE,
)
_NUMBERING = dict.fromkeys(map(ord, "0123456789 \t\n\xa0|"))


def prune(body: Element) -> None:
    """Take away what is not shown, and what by its name stands around the text."""
    for element in list(body.iter(*INVISIBLE)):
        remove(element)
    for element in [each for each in body.iter("td", "span", "div", "a", "ol", "ul") if _is_gutter(each)]:
        remove(element)
    for element in [each for each in body.xpath(".//*[@hidden or @style]") if hidden(each)]:
        if element.find(".//h1") is None:
            remove(element)
    total = max(_sentence_length(body), 1)
    for element in body.xpath(".//*[@class or @id or @role or self::nav or self::aside or self::footer]"):
        if element.tag in _PROTECTED or element.getparent() is None:
            continue
        named = f"{element.get('class') or ''} {element.get('id') or ''}"
        chrome = element.tag in _NEVER or element.get("role") in _ROLES or (named != " " and _CHROME.search(named))
        if not chrome or element.tag == "h1" or (element.tag not in _NEVER and element.find(".//h1") is not None):
            continue
        if _sentence_length(element) <= _CHROME_SHARE * total:
            remove(element)


_ROLES = frozenset(
    str.split("navigation banner contentinfo complementary search menu menubar toolbar dialog alertdialog")
)


def _is_gutter(element: Element) -> bool:
    """Whether an element holds the line numbers beside a block of code."""
    if not _GUTTER.search(element.get("class") or ""):
        return False
    return not "".join(element.itertext()).translate(_NUMBERING)


def _sentence_length(element: Element) -> int:
    """Characters in paragraphs of a sentence's length: what tells text from labels."""
    return sum(len(text) for part in element.itertext() if len(text := part.strip()) >= 60)


# ── Choosing ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Block:
    leaf: Element
    text: str
    letters: str
    """Letters and digits alone: what can be compared across white space and markup."""
    linked: float
    """Share of the letters that stand in links."""
    kept: bool = False


_LONG = 25
"""Letters from which a block is taken to stand once only."""


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _linked(leaf: Element, letters: str) -> float:
    if not letters:
        return 0.0
    if leaf.tag == "a" or any(True for _ in leaf.iterancestors("a")):
        return 1.0
    return min(sum(len(_letters("".join(a.itertext()))) for a in leaf.iter("a")) / len(letters), 1.0)


def main_text(leaves: Sequence[Element], named: str, title: str, description: str) -> list[Element]:
    """The leaves of the main text. `named`: the text that an extractor takes for it."""
    blocks = []
    for leaf in leaves:
        text = text_of(leaf)
        letters = _letters(text)
        blocks.append(_Block(leaf, text, letters, _linked(leaf, letters)))
    _lay_over(blocks, _letters(named))
    _fill(blocks)
    _take_lead(blocks, title, description)
    for block in blocks:
        if block.kept and _is_chrome(block):
            block.kept = False
    if not any(block.kept for block in blocks):
        # Nothing that reads like an article: what is not made of links is better than nothing.
        for block in blocks:
            block.kept = bool(block.letters) and block.linked < 0.5 and not _is_chrome(block)
    _name_once(blocks, title)
    _trim(blocks)
    return [block.leaf for block in blocks if block.kept]


def _lay_over(blocks: Sequence[_Block], named: str) -> None:
    """Keep the blocks whose letters stand in the named text: long ones anywhere, short ones between those."""
    places: list[tuple[int, int, int]] = []
    cursor = 0
    for index, block in enumerate(blocks):
        length = len(block.letters)
        if length < _LONG:
            continue
        start = named.find(block.letters, cursor)
        if start < 0:
            start = named.find(block.letters)
        if start < 0 and length >= 2 * _LONG:
            # Part of the block may have gone: its beginning and its end still tell.
            start = named.find(block.letters[:_LONG])
            length = _LONG
            if start < 0:
                start = named.find(block.letters[-_LONG:])
        if start >= 0:
            block.kept = True
            places.append((index, start, start + length))
            cursor = start + length
    anchors = [(-1, 0, 0), *_ascending(places), (len(blocks), len(named), len(named))]
    for (first, _, end), (last, begin, _) in pairwise(anchors):
        cursor = end
        for block in blocks[first + 1 : last]:
            if first < 0 and block.linked > 0.9 and block.leaf.tag not in HEADINGS:
                continue  # a way through the site that happens to bear a heading's name
            if 0 < len(block.letters) < _LONG and not block.kept:
                found = named.find(block.letters, cursor, begin)
                if found >= 0:
                    block.kept, cursor = True, found + len(block.letters)


def _ascending(places: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The longest run of places in which the reading order is that of the named text: what is out of it repeats."""
    tails: list[int] = []
    ends: list[int] = []
    back: list[int] = []
    for at, (_, start, _) in enumerate(places):
        where = bisect_left(ends, start)
        back.append(tails[where - 1] if where else -1)
        if where == len(ends):
            ends.append(start)
            tails.append(at)
        else:
            ends[where] = start
            tails[where] = at
    chosen: list[tuple[int, int, int]] = []
    at = tails[-1] if tails else -1
    while at >= 0:
        chosen.append(places[at])
        at = back[at]
    return chosen[::-1]


def _fill(blocks: Sequence[_Block]) -> None:
    """Take in what stands between kept blocks in the same container and reads like text."""
    kept = [index for index, block in enumerate(blocks) if block.kept]
    if not kept:
        return
    for first, second in pairwise(kept):
        gap = blocks[first + 1 : second]
        if not gap:
            continue
        before, after = blocks[first].leaf, blocks[second].leaf
        shared = set(before.iterancestors())
        common = next((a for a in after.iterancestors() if a in shared), None)
        for block in gap:
            if common is None or not block.letters or _is_caption(block.leaf):
                continue
            up = list(block.leaf.iterancestors())
            if common not in up:
                continue
            near = up.index(common) <= 3
            if block.leaf.tag in ("pre", "table"):
                block.kept = near
            elif block.leaf.tag in HEADINGS:
                block.kept = near and block.linked < 0.5
            else:
                block.kept = near and block.linked < 0.3 and len(block.text) >= 60


def _take_lead(blocks: Sequence[_Block], title: str, description: str) -> None:
    """Take in the lead: text between the title and the first kept block, or what the description repeats."""
    first = next((index for index, block in enumerate(blocks) if block.kept), None)
    if first is None:
        return
    wanted = _letters(description)[:60]
    heading = _letters(title)
    start = None
    for index in range(first - 1, -1, -1):
        block = blocks[index]
        if block.leaf.tag == "h1" or (heading and block.letters == heading and block.leaf.tag in HEADINGS):
            start = index
            break
    for index, block in enumerate(blocks[:first]):
        if block.kept or not block.letters or block.linked >= 0.3 or _is_caption(block.leaf):
            continue
        repeats = len(wanted) >= 40 and block.letters.startswith(wanted[:40])
        between = start is not None and index > start and len(block.text) >= 80 and " " in block.text
        if repeats or between:
            block.kept = True


def _is_caption(leaf: Element) -> bool:
    """Whether the block names a picture: what the extractor did not take of these is not taken in either."""
    around = [leaf, *islice(leaf.iterancestors(), 3)]
    return any(each.tag in ("figcaption", "figure") or _CAPTION.search(each.get("class") or "") for each in around)


def _is_chrome(block: _Block) -> bool:
    if block.leaf.tag in ("pre", "table"):
        return False
    text = block.text
    if len(text) <= _CALL_LENGTH and _CALLS.search(text):
        return True
    if len(text) <= 40 and block.leaf.tag not in HEADINGS and _LABEL.match(text):
        return True
    return len(text) <= 120 and _CREDIT.search(text) is not None


def _name_once(blocks: Sequence[_Block], title: str) -> None:
    """The title stands over the text once: boxes for sharing repeat it."""
    letters = _letters(title)
    named = [block for block in blocks if block.kept and block.leaf.tag in HEADINGS and block.letters == letters]
    for block in named[1:]:
        block.kept = False


def _trim(blocks: Sequence[_Block]) -> None:
    """A heading with nothing under it before the next of its level or the end goes."""
    after: _Block | None = None
    for block in reversed(blocks):
        if not block.kept:
            continue
        if block.leaf.tag in HEADINGS and (
            after is None
            or (after.leaf.tag in HEADINGS and after.leaf.tag <= block.leaf.tag and block.leaf.tag != "h1")
        ):
            block.kept = False
            continue
        after = block


def named_text(root: Element) -> str:
    """What trafilatura takes for the main text of this tree, which it leaves as it is."""
    options = Extractor(output_format="python", comments=False, tables=True)
    document = trafilatura.bare_extraction(root, options=options)
    return str(getattr(document, "text", None) or "")
