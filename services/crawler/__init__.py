"""Brings in what someone wrote: finds it, fetches it, makes text of it, and keeps it, a version for each change.

Comes in: addresses, paths, uploads (gRPC: StartCrawl, Upload, GetCrawl, WatchCrawl, …). Goes out: documents with their
texts in the store, and the feature service asked to index them. Does not know: chunks, vectors, searches, keys.

    ingest.py       what a person asked for, as jobs, and how far they are
    crawl.py        the work of one crawl: items looked at, brought in, counted; checkpoints
    discover.py     what an address is
    sources/        what a source holds, a file for each kind
    web.py          the web as a crawler may use it: fetch.py behind robots.py and politeness.py
    fetch.py        one document over HTTP: redirects, retries, conditions, limits
    guard.py        which addresses may be connected to
    repository.py   a Git repository's files at a ref
    files.py        which files are somebody's writing; folders.py which folders may be read
    address.py      when two addresses are the same document's
    sandbox.py      child processes for hostile bytes; tasks.py what is done in them; page.py links, feeds, sitemaps
    extract/        bytes of many kinds made Markdown; extraction.py calls it in the sandbox
    sketch.py       near-duplicate texts; duplicates.py which documents they are
    remove.py       deleting
    library.py      documents, authors, and taking them away
    schedule.py     what is crawled again by itself
    author.py       names of authors
    servicer.py     gRPC
    bootstrap.py    settings and adapters
"""
