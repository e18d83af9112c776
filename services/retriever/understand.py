"""The first step: what is asked, standing alone, and what it is narrowed to.

Comes in: a question, the conversation before it, and what exists in the index. Goes out: a question that needs no
history, and filters. Does not know: the index, models, scores.

No language model: a follow-up gets the telling words of the question before it, and a filter is recognised by fixed
phrases whose name exists (an author, host or language in the index, a date in its range). Nothing is ever created.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from services.confidence import STOP_WORDS, WORD
from services.domain import Facets, Filter, Message

CARRIED = 8
"""Words that a follow-up takes over from the question before it, at most."""
SHORT = 3
"""Content words: a question of so many or fewer that opens like a follow-up is one."""
TURNS = 6
"""Questions of the history that are looked at."""

OPENING = re.compile(
    r"(?:and|but|or|so|then|also|what about|how about|what if|why(?: not| so)?|how so|same|the same|tell me more|more|"
    r"go on|continue|another|others?|else|for example|an example|examples?|any|which ones?|really|ok(?:ay)?)\b",
    re.IGNORECASE,
)
PRONOUN = re.compile(
    r"\b(?:it|its|itself|they|them|their|theirs|he|him|his|she|her|hers|this|these|those|the (?:former|latter)|"
    r"the (?:first|second|third|last|other) (?:one)?|that(?=\s*(?:$|[?.!,;]|is\b|was\b|does\b|did\b|do\b|work|mean|"
    r"help|happen|one\b|be\b|with\b|for\b|in\b))|"
    r"(?:(?<=does )|(?<=did )|(?<=do )|(?<=is )|(?<=was )|(?<=will )|(?<=would )|(?<=can ))that)(?!\w)",
    re.IGNORECASE,
)
GENERAL = frozenset(
    WORD.findall(
        "advantages alternatives benefits cons details difference differences disadvantages drawbacks elaborate "
        "example examples explain happen limitations limits mean means possible pros reason reasons step steps "
        "summarise summarize summary work works"
    )
)
"""With only such words a question is about something named before."""
ANTECEDENTS = 2
"""Content words before a pronoun: with so many it can refer to something within the question."""

WRITING = (
    r"wrote|writes?|written|writing|published?|publishes|posted|posts?|blogged|articles?|essays?|notes?|entries|"
    r"documents?|docs|pages?|pieces?|texts?|said|says?"
)
HAS_WRITING = re.compile(rf"\b(?:{WRITING})\b", re.IGNORECASE)
"""A year is a filter only where the question speaks of writings: "who won in 2008" does not ask for texts of 2008."""
LISTED = re.compile(
    rf"{WRITING}|lists?|listed|titles?|topics?|subjects?|themes?|things?|everything|anything|something", re.IGNORECASE
)
"""With only such words beside a filter, "what did I publish in 2023?", a question asks for what the filter leaves."""
MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name} | {
    name.lower(): number for number, name in enumerate(calendar.month_abbr) if name
}
DATE = rf"(?:(?:{'|'.join(sorted(MONTHS, key=len, reverse=True))})\.?,?\s+)?(?:19|20)\d\d(?:-\d\d(?:-\d\d)?)?"
DATES = re.compile(
    rf"\b(?:(?:between|from)\s+(?P<first>{DATE})\s+(?:and|to|until|till)\s+(?P<last>{DATE})"
    rf"|(?P<how>in|since|from|after|before|until|till|during|of)\s+(?P<when>{DATE}))(?![\w-])",
    re.IGNORECASE,
)
CUE = re.compile(
    r"\b(?:by|from|on|at|in|since|after|before|until|till|between|during|of|according)\b|['’]s\b", re.IGNORECASE
)
"""Without one of these no filter is named, and what exists need not be asked for."""
LANGUAGES = {
    "arabic": "ar", "bulgarian": "bg", "catalan": "ca", "chinese": "zh", "croatian": "hr", "czech": "cs",
    "danish": "da", "dutch": "nl", "english": "en", "estonian": "et", "finnish": "fi", "french": "fr", "german": "de",
    "greek": "el", "hebrew": "he", "hindi": "hi", "hungarian": "hu", "indonesian": "id", "italian": "it",
    "japanese": "ja", "korean": "ko", "latvian": "lv", "lithuanian": "lt", "norwegian": "no", "persian": "fa",
    "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru", "slovak": "sk", "slovenian": "sl",
    "spanish": "es", "swedish": "sv", "thai": "th", "turkish": "tr", "ukrainian": "uk", "vietnamese": "vi",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Understood:
    question: str
    filter: Filter
    """As asked for and as recognised together."""
    carried: tuple[str, ...] = ()
    """Words taken over from the question before."""
    recognised: tuple[str, ...] = ()
    """The phrases that were read as filters, as they stood."""
    listing: bool = False
    """Nothing is asked but what is there under the filters that were recognised."""


@dataclass(slots=True)
class _Found:
    start: int
    end: int
    filter: Filter = field(default_factory=Filter)


def needs_facets(query: str) -> bool:
    """Whether the question may name a filter at all."""
    return CUE.search(query) is not None


def understand(query: str, history: Sequence[Message], filter: Filter, facets: Facets) -> Understood:
    """What is asked. A filter asked for explicitly is never widened or replaced by a recognised one of its kind."""
    found = sorted(_filters(query, filter, facets), key=lambda each: each.start)
    narrowed, phrases, kept, at = filter, [], [], 0
    for each in found:
        if each.start < at:
            continue
        kept.append(query[at : each.start])
        phrases.append(query[each.start : each.end])
        narrowed = _merged(narrowed, each.filter)
        at = each.end
    rest = re.sub(r"\s+(?=[?.!,])|(?<=\s)\s+", "", "".join([*kept, query[at:]])).strip(" ,")
    # A question that says nothing without the phrase keeps it: "what did alpha write in 2023?"
    question = rest if phrases and _content(rest) else query.strip()
    carried = _carried(question, [each.content for each in history if each.role == "user"])
    if carried:
        question = f"{question} ({' '.join(carried)})"
    listing = bool(phrases) and not carried and all(LISTED.fullmatch(word) for word in _content(rest))
    if listing:
        question = query.strip()
    return Understood(question, narrowed, tuple(carried), tuple(phrases), listing)


# ── Follow-ups ──────────────────────────────────────────────────────────────────────────────────────


def follows_up(query: str) -> bool:
    """Whether the question can't be understood without what was said before it."""
    content = _content(query)
    if OPENING.match(query.strip()) and len(content) <= SHORT:
        return True
    if content and all(word.lower() in GENERAL for word in content):
        return True
    return any(len(_content(query[: found.start()])) < ANTECEDENTS for found in PRONOUN.finditer(query))


def _carried(question: str, before: Sequence[str]) -> list[str]:
    """The telling words that a follow-up takes over: of the nearest question before it that stands alone, and of those
    between, nearest first, without the question's own."""
    if not before or not (follows_up(question) or not _content(question)):
        return []
    words: list[str] = []
    for earlier in list(reversed(before))[:TURNS]:
        words += _content(earlier)
        if not follows_up(earlier) and _content(earlier):
            break
    own = {word.lower() for word in _content(question)}
    unique = {word.lower(): word for word in reversed(words) if word.lower() not in own}
    return list(reversed(unique.values()))[:CARRIED]


def _content(text: str) -> list[str]:
    """Words that tell what it is about, in order; identifiers stay whole."""
    words = re.findall(r"[^\W_]+(?:[._'’-][^\W_]+)*", text)
    return [word for word in words if not all(part.lower() in STOP_WORDS for part in WORD.findall(word))]


# ── Filters ─────────────────────────────────────────────────────────────────────────────────────────


def _filters(query: str, asked: Filter, facets: Facets) -> Iterator[_Found]:
    if not asked.authors:
        yield from _authors(query, facets)
    if not asked.sources:
        yield from _hosts(query, facets)
    if not asked.languages:
        yield from _languages(query, facets)
    if asked.since is None and asked.until is None:
        yield from _dates(query, facets)


def _authors(query: str, facets: Facets) -> Iterator[_Found]:
    said = query.casefold()
    for author in facets.authors:
        # There may be thousands: a pattern of each would be compiled for every question.
        if author.casefold() not in said:
            continue
        name = re.escape(author)
        by = re.compile(
            rf"(?:\b(?:(?:{WRITING})\s+)?by\s+{name}(?![\w-])|,?\s*\baccording to\s+{name}(?![\w-]),?"
            rf"|(?<![\w-]){name}['’]s?\s+(?=(?:{WRITING})\b))",
            re.IGNORECASE,
        )
        for each in by.finditer(query):
            yield _Found(*each.span(), Filter(authors=(author,)))


def _hosts(query: str, facets: Facets) -> Iterator[_Found]:
    said = query.casefold()
    for source in facets.sources:
        if "/" in source or "." not in source or source.casefold() not in said:
            continue
        found = re.search(
            rf"\b(?:on|from|at|in)\s+(?:https?://)?(?:www\.)?{re.escape(source)}(?![\w.-]*\w)/?", query, re.IGNORECASE
        )
        if found:
            yield _Found(*found.span(), Filter(sources=(source,)))


def _languages(query: str, facets: Facets) -> Iterator[_Found]:
    # Where all is in one language, "in German" is part of what is asked.
    if len(facets.languages) < 2:
        return
    for found in re.finditer(r"\b(?:(?:written|published)\s+)?in\s+(\w+)(?:\s+language)?", query, re.IGNORECASE):
        code = LANGUAGES.get(found[1].lower())
        if code in facets.languages and code is not None:
            yield _Found(*found.span(), Filter(languages=(code,)))


def _dates(query: str, facets: Facets) -> Iterator[_Found]:
    if facets.earliest is None or facets.latest is None or not HAS_WRITING.search(query):
        return
    for found in DATES.finditer(query):
        if found["first"]:
            first, last = _range(found["first"]), _range(found["last"])
            since, until = (first and first[0]), (last and last[1])
        else:
            named = _range(found["when"])
            if named is None:
                continue
            since, until = {
                "since": (named[0], None),
                "from": (named[0], None) if found["how"].lower() == "since" else named,
                "after": (_next(named[1]), None),
                "before": (None, _previous(named[0])),
                "until": (None, named[1]),
                "till": (None, named[1]),
            }.get(found["how"].lower(), named)
        if since is None and until is None:
            continue
        if (since or facets.earliest) <= facets.latest and (until or facets.latest) >= facets.earliest:
            yield _Found(*found.span(), Filter(since=since, until=until))


def _range(text: str) -> tuple[str, str] | None:
    """First and last day of a year, a month or a day as written; None for one that is not in the calendar."""
    month_name, _, year_text = text.replace(",", " ").rpartition(" ")
    numbers = [int(part) for part in year_text.split("-")]
    month = MONTHS.get(month_name.strip(" .").lower()) or (numbers[1] if len(numbers) > 1 else None)
    try:
        if len(numbers) == 3:
            day = date(*numbers).isoformat()
            return day, day
        first = date(numbers[0], month or 1, 1)
        last_month = month or 12
        last = date(numbers[0], last_month, calendar.monthrange(numbers[0], last_month)[1])
    except ValueError:
        return None
    return first.isoformat(), last.isoformat()


def _next(day: str) -> str:
    return date.fromordinal(date.fromisoformat(day).toordinal() + 1).isoformat()


def _previous(day: str) -> str:
    return date.fromordinal(date.fromisoformat(day).toordinal() - 1).isoformat()


def _merged(one: Filter, other: Filter) -> Filter:
    return replace(
        one,
        authors=tuple(dict.fromkeys((*one.authors, *other.authors))),
        sources=tuple(dict.fromkeys((*one.sources, *other.sources))),
        languages=tuple(dict.fromkeys((*one.languages, *other.languages))),
        since=one.since or other.since,
        until=one.until or other.until,
    )
