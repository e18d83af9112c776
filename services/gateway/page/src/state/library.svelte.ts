/** The documents, a page at a time. */

import { ApiError, json, request } from "../api";
import type { DocumentRecord, DocumentState } from "../types";

const PAGE = 25;

class Library {
  documents = $state.raw<DocumentRecord[]>([]);
  query = $state("");
  state = $state<DocumentState | "">("");
  author = $state("");
  /** Cursors of the pages gone through; the last is the one shown. */
  cursors = $state<string[]>([""]);
  next = $state("");
  loading = $state(false);
  problem = $state.raw<ApiError | null>(null);
  /** Null: not known yet. */
  empty = $state<boolean | null>(null);
  /** Titles to make questions from, of the newest that are searchable. */
  titles = $state.raw<string[]>([]);
  #latest = 0;

  get page(): number {
    return this.cursors.length;
  }

  async load(): Promise<void> {
    const turn = ++this.#latest;
    this.loading = true;
    try {
      const answer = await list({
        q: this.query.trim(),
        state: this.state,
        author: this.author,
        limit: String(PAGE),
        cursor: this.cursors.at(-1)!,
      });
      // A slower answer to an earlier question must not replace a newer one.
      if (turn !== this.#latest) return;
      this.documents = answer.data;
      this.next = answer.next;
      this.problem = null;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (turn === this.#latest) this.problem = error;
    } finally {
      if (turn === this.#latest) this.loading = false;
    }
  }

  /** Whether there is anything at all, and what to ask about it. */
  async survey(author: string): Promise<void> {
    try {
      const filter: Record<string, string> = author === "twin" ? {} : { author };
      const { data } = await list({ ...filter, limit: "24" });
      this.empty = data.length === 0;
      this.titles = data.filter((document) => document.state === "indexed").map((document) => document.title);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  async search(): Promise<void> {
    this.cursors = [""];
    await this.load();
  }

  async forward(): Promise<void> {
    this.cursors.push(this.next);
    await this.load();
  }

  async back(): Promise<void> {
    this.cursors.pop();
    await this.load();
  }

  async remove(document: DocumentRecord): Promise<void> {
    await request(`/v1/documents/${encodeURIComponent(document.id)}`, { method: "DELETE" });
    this.documents = this.documents.filter((other) => other.id !== document.id);
    if (this.documents.length === 0 && this.cursors.length > 1) await this.back();
    else await this.load();
  }
}

function list(filter: Record<string, string>): Promise<{ data: DocumentRecord[]; next: string }> {
  const given = Object.entries(filter).filter(([, value]) => value !== "");
  return json(`/v1/documents?${new URLSearchParams(given).toString()}`);
}

export const library = new Library();
