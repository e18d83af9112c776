"""Makes documents searchable: clean, chunk, embed, index.

Comes in: ids and versions of documents (gRPC: Featurize, DeleteDocument, Reindex, GetReindex, WatchReindex, Calibrate).
Goes out: their chunks in the index, and in each record the version that is searchable. Does not know: how documents
come in, how they are searched, what is answered.

    clean.py        a text made even; versioned by CLEANER
    blocks.py       headings, paragraphs, lists, tables and code of a text, as spans
    chunk.py        exact spans of it that fit the encoder; versioned by CHUNKER
    embed.py        chunks of many documents through the encoder and into the index, in bounded batches
    featurize.py    one version of one document made searchable: the order of steps that needs no transaction
    withdraw.py     a document taken out of every index
    generations.py  the live index and the one being built, each with the encoder that its manifest names
    reindex.py      the second generation, filled and put in the first one's place
    reconcile.py    the sweep for what a crash left undone
    calibrate.py    thresholds fitted to the corpus itself
    servicer.py     gRPC
    bootstrap.py    settings and adapters

How texts are kept. The crawler saves a version's text as it was extracted, with no cleaner's name. Before anything is
staged, that text is cleaned in place if cleaning changes it, under CLEANER's name; `text_hash` stays that of the
extracted text, which is what the crawler compares. A version that may have been cited keeps its text for good: where a
newer cleaner makes another one of it, that becomes the next version.

What a record's `fingerprint` says is the manifest's of the index that was live when the version was written. A newer
cleaner or chunker does not touch what is indexed: `twin reindex` does, as for a new encoder.
"""
