"""Taking documents out of the index: deleted ones, and those found to be another's duplicate.

Comes in: ids. Goes out: no chunk of theirs in any generation, and records that say so. Does not know: who deletes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from services.errors import Conflict
from services.feature.generations import Generations
from services.ports import Documents


async def take_away(documents: Documents, generations: Generations, ids: Collection[str]) -> None:
    """Every chunk of these documents, staged ones included, in every generation.

    The records are written last and only where nothing wrote them since they were read: a document that came back
    meanwhile is told by that, and is left as one that has to be indexed again.
    """
    wanted = list(ids)
    while wanted:
        found = await documents.get(wanted)
        for index in await generations.all_indexes():
            await index.delete(wanted)
        wanted = []
        for document in found.values():
            if document.indexed_version is None and document.chunks == 0:
                continue
            try:
                await documents.save(replace(document, indexed_version=None, fingerprint="", chunks=0))
            except Conflict:
                wanted.append(document.id)
