"""Finds the passages that answer: RetrieverService.

Comes in: questions, with scope, filters and the conversation before them (gRPC: Search, Embed, Describe). Goes out:
passages with each stage's scores, what each step did, and how well they answer. Does not know: how documents come in
or how answers are written.

    retrieve.py     the steps in their order:
    understand.py     1  follow-ups made standalone, filters recognised against what exists
    queries.py        2  what to search for
    search.py         3  by meaning and by words, at once
    fuse.py           4  one ranking
    rerank.py         5  read again by a cross-encoder, where one is set
    threshold.py      6  whether it answers, by calibrated scores
    duplicates.py     7  no passage twice
    context.py        8  text beside those that can't be read without
    live.py         the live index and the encoder that its manifest names
    servicer.py     gRPC
    bootstrap.py    settings and adapters
"""
