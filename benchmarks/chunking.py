"""What of the right text five retrieved chunks hold, beside LangChain's and LlamaIndex's splitters.

    TWIN_TEST_DATA=… python -m benchmarks.chunking [--k 5]

Reads chunking/*.md and chunking/questions.jsonl: corpora, and questions with the exact spans that answer them. Every
splitter's chunks are embedded by the same encoder (onnx://, window 256 tokens) and ranked by cosine. As in the project
chunking_evaluation, over characters, a mean over the questions:

    recall = |answer ∩ retrieved| / |answer|
    IoU    = |answer ∩ retrieved| / (Σ |retrieved chunk| + |answer \\ retrieved|)

so overlapping chunks count as often as they are retrieved. A chunk of a peer's that is longer than the window is
embedded by its first 256 tokens, as sentence-transformers does; Twin's fit. The corpora have no titles.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.adapters import open_adapter
from services.feature.chunk import chunk
from services.ports import Encoder, Vectors

Piece = tuple[int, int, str]
"""(start, end, what is embedded)."""
Scores = npt.NDArray[np.float64]
SAMPLES = 2000
"""Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    corpus: str
    spans: tuple[tuple[int, int], ...]


@contextmanager
def sentence_data() -> Iterator[None]:
    """LlamaIndex's own stop words and sentence model as plain copies: nltk refuses files that a package manager linked
    into the environment."""
    found = importlib.util.find_spec("llama_index.core")
    if found is None or found.origin is None:
        raise SystemExit("bench-retrieval needs the group `bench`: make bench-retrieval installs it.")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(Path(found.origin).parent / "_static" / "nltk_cache", folder, dirs_exist_ok=True)
        os.environ["NLTK_DATA"] = folder
        yield


def twin(text: str, encoder: Encoder) -> list[Piece]:
    return [(each.start, each.end, each.embedded_text) for each in chunk(text, "document", "", encoder)]


def langchain(text: str, encoder: Encoder, tokens: int | None = None) -> list[Piece]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    if tokens is None:
        splitter = RecursiveCharacterTextSplitter(add_start_index=True)
    else:
        splitter = RecursiveCharacterTextSplitter(
            chunk_size=tokens,
            chunk_overlap=0,
            length_function=lambda each: len(encoder.token_spans(each)),
            add_start_index=True,
        )
    made = splitter.create_documents([text])
    return [
        (each.metadata["start_index"], each.metadata["start_index"] + len(each.page_content), each.page_content)
        for each in made
    ]


def llama_index(text: str, encoder: Encoder, tokens: int | None = None) -> list[Piece]:
    from llama_index.core import Document
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.schema import TextNode

    splitter = (
        SentenceSplitter()
        if tokens is None
        else SentenceSplitter(chunk_size=tokens, chunk_overlap=0, tokenizer=encoder.token_spans)
    )
    pieces: list[Piece] = []
    for node in splitter.get_nodes_from_documents([Document(text=text)]):
        assert isinstance(node, TextNode)
        assert node.start_char_idx is not None
        assert node.end_char_idx is not None
        pieces.append((node.start_char_idx, node.end_char_idx, node.text))
    return pieces


def within(texts: Sequence[str], encoder: Encoder) -> list[str]:
    """Each text as far as the window reaches."""
    room = encoder.identity.window - encoder.count([""])[0]
    cut = []
    for text in texts:
        spans = encoder.token_spans(text)
        while len(spans) > room:
            text = text[: spans[room][0]].rstrip()
            spans = encoder.token_spans(text)
        cut.append(text)
    return cut


def judge(
    pieces: Sequence[Piece], questions: Sequence[Question], chunks: Vectors, asked: Vectors, length: int, k: int
) -> list[tuple[float, float]]:
    """(recall, IoU) of each question."""
    scores = []
    for question, vector in zip(questions, asked, strict=True):
        best = np.argsort(-(chunks @ vector), kind="stable")[:k]
        retrieved = np.zeros(length, dtype=bool)
        answer = np.zeros(length, dtype=bool)
        for each in best:
            retrieved[pieces[each][0] : pieces[each][1]] = True
        for start, end in question.spans:
            answer[start:end] = True
        both = int((answer & retrieved).sum())
        whole = sum(pieces[each][1] - pieces[each][0] for each in best)
        scores.append((both / int(answer.sum()), both / (whole + int(answer.sum()) - both)))
    return scores


def interval(values: Scores) -> tuple[float, float]:
    """95 % of the bootstrap's means."""
    draws = np.random.default_rng(0).integers(0, len(values), (SAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


async def run(folder: Path, k: int) -> bool:
    encoder: Encoder = await open_adapter("encoder", "onnx://", folder)
    lines = (folder / "chunking" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [
        Question(each["question"], each["corpus"], tuple((span["start"], span["end"]) for span in each["spans"]))
        for each in map(json.loads, lines)
    ]
    corpora = {
        name: (folder / "chunking" / f"{name}.md").read_text(encoding="utf-8")
        for name in sorted({each.corpus for each in questions})
    }
    own = [len(encoder.token_spans(text)) for corpus in corpora.values() for _, _, text in twin(corpus, encoder)]
    size = round(float(np.mean(own)))
    splitters: dict[str, Callable[[str], list[Piece]]] = {
        "Twin": lambda text: twin(text, encoder),
        "LangChain, default (4000 characters, overlap 200)": lambda text: langchain(text, encoder),
        "LlamaIndex, default (1024 tokens, overlap 200)": lambda text: llama_index(text, encoder),
        f"LangChain, {size} of the encoder's tokens": lambda text: langchain(text, encoder, size),
        f"LlamaIndex, {size} of the encoder's tokens": lambda text: llama_index(text, encoder, size),
    }
    results: dict[str, Scores] = {}
    print(
        f"Chunks of {len(corpora)} corpora, {len(questions)} questions, {k} retrieved, encoder onnx:// (same for all)"
    )
    print(f"{'':52} {'recall':>7} {'IoU':>7} {'chunks':>7} {'tokens':>7}   recall, IoU by corpus")
    for name, split in splitters.items():
        scores: list[tuple[float, float]] = []
        count = 0
        tokens: list[int] = []
        by_corpus = []
        for corpus, text in corpora.items():
            pieces = split(text)
            asked = [each for each in questions if each.corpus == corpus]
            embedded = within([each for _, _, each in pieces], encoder)
            found = judge(
                pieces,
                asked,
                await encoder.encode(embedded),
                await encoder.encode([each.text for each in asked]),
                len(text),
                k,
            )
            scores += found
            count += len(pieces)
            tokens += [len(encoder.token_spans(each)) for _, _, each in pieces]
            mean = np.mean(found, axis=0)
            by_corpus.append(f"{corpus} {mean[0]:.3f} {mean[1]:.3f}")
        results[name] = np.asarray(scores)
        recall, overlap = results[name].mean(axis=0)
        print(f"{name:52} {recall:7.3f} {overlap:7.4f} {count:7} {np.mean(tokens):7.0f}   {', '.join(by_corpus)}")
    print("\nTwin beside each: ratio, and the difference with its 95 % interval")
    better = True
    for name, theirs in results.items():
        if name == "Twin":
            continue
        parts = []
        for column, what in ((0, "recall"), (1, "IoU")):
            difference = results["Twin"][:, column] - theirs[:, column]
            low, high = interval(difference)
            ratio = results["Twin"][:, column].mean() / theirs[:, column].mean()
            parts.append(f"{what} × {ratio:.3f} ({difference.mean():+.4f}, {low:+.4f} to {high:+.4f})")
            better = better and ("default" not in name or difference.mean() > 0)
        print(f"{name:52} {'; '.join(parts)}")
    print("\nBetter than both defaults on both: " + ("yes" if better else "NO"))
    await encoder.close()
    return better


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=5, help="chunks retrieved")
    arguments = parser.parse_args()
    folder = os.environ.get("TWIN_TEST_DATA")
    if not folder or not (Path(folder) / "chunking").is_dir():
        print("Skipped: TWIN_TEST_DATA names no folder that holds chunking/.")
        return
    with sentence_data():
        sys.exit(0 if asyncio.run(run(Path(folder), arguments.k)) else 1)


if __name__ == "__main__":
    main()
