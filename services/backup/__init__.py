"""Everything of a Twin in one file, and from it into any other set of stores.

Comes in: stores, whichever adapters hold them. Goes out: a ZIP file (backup), or filled stores (restore). Does not
know: which technology any store is: a laptop's backup fills a cluster's stores, and the other way round, and nothing is
embedded again.

    backup.py     stores ─▶ file, while writes go on
    restore.py    file ─▶ stores, checked before and after
    records.py    domain objects ⇄ JSON
    bootstrap.py  opens the stores that the settings name

In the file: one line a document with its texts, addresses and chunks, its vectors and its original bytes beside it;
sources, jobs, journal, keys (hashed, as they are kept) and audit; and contents.json with counts and digests of all.
"""
