"""What a message is before it is a question: a greeting, thanks, or a program's housekeeping prompt.

Comes in: a conversation. Goes out: what its last message is, and plain answers to what is no question to the corpus.
Does not know: passages, engines.

Chat programs send prompts of their own through the same door (a title for the conversation, tags, follow-up
questions): they are answered from the conversation that they carry, never declined, and nothing is searched for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import StrEnum

from services.domain import Message


class Talk(StrEnum):
    QUESTION = "question"
    GREETING = "greeting"
    THANKS = "thanks"
    FAREWELL = "farewell"
    ABOUT = "about"
    """Who or what answers here."""
    TITLE = "title"
    TAGS = "tags"
    FOLLOW_UPS = "follow_ups"
    QUERIES = "queries"
    AUTOCOMPLETE = "autocomplete"
    EMOJI = "emoji"

    @property
    def housekeeping(self) -> bool:
        return self in _HOUSEKEEPING


_HOUSEKEEPING = (Talk.TITLE, Talk.TAGS, Talk.FOLLOW_UPS, Talk.QUERIES, Talk.AUTOCOMPLETE, Talk.EMOJI)

_SMALL = r"[\s,.!?…😀-🙏👋🙂🤝❤️👍✨-]*"
_THERE = r"(?:\s+(?:there|all|everyone|twin|again|friend|folks|you))?"
_GREETING = re.compile(
    rf"{_SMALL}(?:hi+|hey+|hello+|hallo|howdy|greetings|good\s+(?:morning|afternoon|evening|day)|yo|hola|bonjour|salut|"
    rf"ciao|servus|moin|guten\s+(?:tag|morgen|abend)|buenos\s+d[ií]as)(?:{_THERE}{_SMALL}"
    rf"(?:how\s+are\s+you(?:\s+(?:today|doing))?|how(?:'s|\s+is)\s+it\s+going|what'?s\s+up|nice\s+to\s+meet\s+you)?)"
    rf"{_SMALL}",
    re.IGNORECASE,
)
_HOW_ARE_YOU = re.compile(rf"{_SMALL}how\s+are\s+you(?:\s+(?:today|doing))?{_SMALL}", re.IGNORECASE)
_THANKS = re.compile(
    rf"{_SMALL}(?:(?:ok(?:ay)?|great|perfect|nice|cool|awesome|wonderful)[\s,.!]*)?(?:many\s+)?(?:thanks?|thx|ty|cheers|"
    rf"thank\s+you|danke(?:\s+sch[oö]n)?|merci|gracias|grazie)(?:\s+(?:you|a\s+lot|so\s+much|very\s+much|again|beaucoup|"
    rf"for\s+(?:your|the|this|that)(?:\s+\w+)?))?(?:[\s,.!]*(?:that\s+(?:helps|helped|was\s+helpful)(?:\s+a\s+lot)?|"
    rf"bye|great\s+answer))?{_SMALL}|{_SMALL}(?:ok(?:ay)?|great|perfect|cool|awesome|got\s+it|makes\s+sense){_SMALL}",
    re.IGNORECASE,
)
_FAREWELL = re.compile(
    rf"{_SMALL}(?:good\s?bye|bye(?:[\s-]+bye)?|see\s+you(?:\s+(?:later|soon|tomorrow))?|good\s+night|tsch[uü]ss|adieu|"
    rf"au\s+revoir|take\s+care|have\s+a\s+(?:nice|good|great)\s+(?:day|one|evening|weekend)){_SMALL}",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    rf"{_SMALL}(?:who\s+are\s+you|what\s+are\s+you|what\s+is\s+your\s+name|what\s+can\s+you\s+do(?:\s+for\s+me)?|"
    rf"how\s+can\s+you\s+help(?:\s+me)?|help|what\s+do\s+you\s+know|are\s+you\s+(?:a\s+bot|human|an?\s+ai)|test|ping)"
    rf"{_SMALL}",
    re.IGNORECASE,
)
_TASK = re.compile(r"^\s*#{1,4}\s*(?:task|instructions?)\s*:?\s*\n", re.IGNORECASE)
_ASKED: Sequence[tuple[Talk, re.Pattern[str]]] = (
    (
        Talk.TITLE,
        re.compile(
            r"\b(?:generate|create|write|provide|give|suggest|summari[sz]e|come up with)\b[^.\n]{0,120}\btitle\b|"
            r"\btitle\b[^.\n]{0,60}\b(?:chat|conversation|dialogue)\b|"
            r"\bsummari[sz]e[^.\n]{0,80}\b(?:into|as|in) (?:a )?title\b",
            re.IGNORECASE,
        ),
    ),
    (Talk.FOLLOW_UPS, re.compile(r"\bfollow[- ]?up\b|\bsuggest[^.\n]{0,80}\bquestions?\b", re.IGNORECASE)),
    (Talk.TAGS, re.compile(r"\b(?:generate|create|suggest)[^.\n]{0,80}\btags?\b", re.IGNORECASE)),
    (
        Talk.QUERIES,
        re.compile(r"\b(?:search quer|queries)[^\n]{0,200}|\bdetermine the necessity of generating", re.IGNORECASE),
    ),
    (Talk.EMOJI, re.compile(r"\bemoji\b", re.IGNORECASE)),
    (Talk.AUTOCOMPLETE, re.compile(r"\bautocomplet", re.IGNORECASE)),
)
_ABOUT_CHAT = re.compile(
    r"<chat_history>|###\s*chat history|\b(?:this|the|our|above|following|entire|chat|a) (?:chat|conversation|dialogue|"
    r"exchange|discussion|chat history|messages)\b",
    re.IGNORECASE,
)
_IMPERATIVE = re.compile(
    r"^\W*(?:please\s+)?(?:generate|create|write|provide|give|suggest|summari[sz]e|come up with|based on|you are|"
    r"analy[sz]e|determine|here (?:is|are))\b",
    re.IGNORECASE,
)
_HISTORY = re.compile(
    r"<chat_history>\s*(.*?)\s*</chat_history>|###\s*chat history:?\s*\n(.*?)(?:\n###|$)|(?:conversation|messages?)\s*:"
    r"\s*\n(.*)$",
    re.IGNORECASE | re.DOTALL,
)
_TURN = re.compile(r"^\s*(?:user|human|you)\s*:\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_WRAPPING = re.compile(
    r"^(?:please\s+|can you\s+|could you\s+|tell me\s+(?:about\s+)?|i(?:'d| would) like to know\s+)+", re.I
)


def kind(messages: Sequence[Message]) -> Talk:
    """What the last message is. Only short and whole phrases are small talk; a question that holds one is not."""
    text = messages[-1].content.strip()
    system = messages[0].content if messages[0].role == "system" else ""
    if len(text) <= 120:
        for pattern, talk in (
            (_GREETING, Talk.GREETING),
            (_HOW_ARE_YOU, Talk.GREETING),
            (_THANKS, Talk.THANKS),
            (_FAREWELL, Talk.FAREWELL),
            (_ABOUT, Talk.ABOUT),
        ):
            if pattern.fullmatch(text):
                return talk
    task = bool(_TASK.match(text))
    imperative = bool(_IMPERATIVE.match(text)) and bool(_ABOUT_CHAT.search(text))
    if task or imperative:
        opening = _TASK.sub("", text)[:400]
        for talk, pattern in _ASKED:
            if pattern.search(opening):
                return talk
        if task:
            return Talk.TITLE
    if (
        re.search(r"\btitle\b", system[:400], re.IGNORECASE)
        and _IMPERATIVE.match(system)
        and _ABOUT_CHAT.search(system)
    ):
        return Talk.TITLE
    return Talk.QUESTION


def reply(talk: Talk, messages: Sequence[Message], author: str | None, model: str = "") -> str:
    """A plain answer, without searching and without a model."""
    whose = f"what {author} has written" if author else "what its authors have written"
    text = messages[-1].content
    if talk is Talk.GREETING:
        return f"Hello! Ask me anything about {whose}; I answer with sources."
    if talk is Talk.THANKS:
        return "You are welcome. Ask on whenever you like."
    if talk is Talk.FAREWELL:
        return "Goodbye!"
    if talk is Talk.ABOUT:
        how = f"in words written by {model}, checked against it" if model else "in its own words"
        return f"I answer questions from {whose}, {how}, with a numbered source for each statement."
    asked = _user_turns(messages)
    wants_json = "json" in text.lower()
    if talk is Talk.TITLE:
        title = _title(asked[0] if asked else "")
        return json.dumps({"title": title}, ensure_ascii=False) if wants_json else title
    if talk is Talk.TAGS:
        return json.dumps({"tags": ["General"]})
    if talk is Talk.FOLLOW_UPS:
        return json.dumps({"follow_ups": []})
    if talk is Talk.QUERIES:
        return json.dumps({"queries": asked[-1:]}, ensure_ascii=False)
    if talk is Talk.EMOJI:
        return "💬"
    return json.dumps({"text": ""})


def _user_turns(messages: Sequence[Message]) -> list[str]:
    """What the user said: in the history that the prompt carries, else in the messages before it."""
    history = _HISTORY.search(messages[-1].content)
    if history is not None:
        inside = next((group for group in history.groups() if group is not None), "")
        turns = [turn.strip() for turn in _TURN.findall(inside)]
        if turns:
            return turns
        if inside.strip():
            return [inside.strip().splitlines()[0]]
    earlier = [message.content.strip() for message in messages[:-1] if message.role == "user"]
    return earlier or [messages[-1].content.strip()] * (messages[0].role == "system")


def _title(question: str) -> str:
    plain = _WRAPPING.sub("", re.sub(r"[\"'`*_#<>\[\]{}]", "", question)).strip()
    first = plain.split()[:7]
    title = " ".join(first).rstrip(" ,.;:?!")
    return title[:1].upper() + title[1:] if title else "New conversation"
