/** The source that is open beside the conversation. */

import { ApiError, json } from "../api";
import type { Citation, DocumentRecord, DocumentText, Passage } from "../types";
import { card } from "./card.svelte";

export interface Target {
  id: string;
  version: number | null;
  /** Code points; an empty span shows the document from its beginning. */
  start: number;
  end: number;
  title: string;
  url: string;
  author: string;
  published: string | null;
  heading: string;
  /** The span's text as it was cited, shown where the document is gone. */
  quote: string;
}

export const targets = {
  citation: (it: Citation): Target => ({ ...it, id: it.document_id }),
  passage: (it: Passage): Target => ({
    ...it.document,
    ...{ version: it.version, start: it.start, end: it.end },
    heading: it.heading,
    quote: it.text,
  }),
  document: (it: DocumentRecord): Target => ({ ...it, version: null, start: 0, end: 0, heading: "", quote: "" }),
};

class Drawer {
  target = $state.raw<Target | null>(null);
  document = $state.raw<DocumentText | null>(null);
  problem = $state.raw<ApiError | null>(null);
  #opener: HTMLElement | null = null;
  #latest = 0;

  async open(target: Target): Promise<void> {
    const turn = ++this.#latest;
    const active = document.activeElement;
    if (active instanceof HTMLElement && !active.closest(".drawer")) this.#opener = active;
    const same = this.document?.id === target.id && this.document.text_version === target.version;
    this.target = target;
    this.problem = null;
    if (same) return;
    this.document = null;
    try {
      const version = target.version === null ? "" : `?version=${target.version}`;
      const text = await json<DocumentText>(`/v1/documents/${encodeURIComponent(target.id)}${version}`);
      if (turn === this.#latest) this.document = text;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (turn === this.#latest) this.problem = error;
    }
  }

  close(): void {
    this.#latest += 1;
    this.target = null;
    this.document = null;
    this.problem = null;
    // Back to the chip or title that opened it, if it is still there.
    if (this.#opener?.isConnected) this.#opener.focus();
    card.hide();
    this.#opener = null;
  }
}

export const drawer = new Drawer();
