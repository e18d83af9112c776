"""Answers from passages, and keeps a journal of the answers.

Comes in: a conversation whose last message is the question. Goes out: a stream of events: text, numbered citations of
exact spans, a verdict on each sentence, usage. Does not know: how passages are found (the retriever's), documents,
HTTP, keys beyond an id and the authors in scope.
"""
