/** What is about to be brought in, and for whom. */

import { ApiError } from "../api";
import { MOST, walk, type Named } from "./dropped";
import { jobs } from "./jobs.svelte";
import { session } from "./session.svelte";

/** `example.org/blog` → `https://example.org/blog`; what has a scheme or is a path stays. */
export function address(line: string): string {
  return /^[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::\d+)?(?:[/?#]|$)/i.test(line) ? `https://${line}` : line;
}

export function addresses(text: string): string[] {
  const lines = text.split(/\s*\n\s*/).map((line) => line.trim());
  return [...new Set(lines.filter(Boolean).map(address))];
}

class Ingest {
  typedAuthor = $state<string | null>(null);
  addresses = $state("");
  sending = $state("");
  /** The part of an upload that is sent, 0 to 1; null where nothing is being sent. */
  sent = $state<number | null>(null);
  problem = $state("");
  #once = "";

  /** The author named in the form; until one is: the twin being asked, the key's own, the first there is. */
  get author(): string {
    if (this.typedAuthor !== null) return this.typedAuthor;
    if (session.model !== "twin") return session.model;
    return session.status?.key.authors?.[0] ?? session.authors[0] ?? "me";
  }

  async send(): Promise<boolean> {
    const list = addresses(this.addresses);
    if (list.length === 0) {
      this.problem = "Give at least one address, such as https://example.org/blog.";
      return false;
    }
    const sent = await this.#try(`Sending ${list.length} …`, (once) => jobs.start(this.author.trim(), list, once));
    if (sent) this.addresses = "";
    return sent;
  }

  async upload(files: Named[]): Promise<void> {
    if (files.length === 0) return;
    if (files.length > MOST) {
      this.problem = `More than ${MOST} files at once are too many for the page: run \`twin ingest FOLDER\`.`;
      return;
    }
    await this.#try(`Sending ${files.length === 1 ? files[0]!.name : `${files.length} files`} …`, async (once) => {
      try {
        await jobs.upload(this.author.trim(), files, once, (part) => (this.sent = part));
      } finally {
        this.sent = null;
      }
    });
  }

  async drop(data: DataTransfer): Promise<void> {
    // Both are empty once the event is over: they are taken before anything is waited for.
    const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
    const files = [...data.files].map((file): Named => ({ file, name: file.name }));
    if (!entries.some((entry) => entry.isDirectory)) return this.upload(files);
    this.problem = "";
    let found: Named[];
    try {
      found = await walk(entries);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.problem = `The browser may not read what was dropped (${error.message}): run \`twin ingest FOLDER\`.`;
      return;
    }
    if (found.length === 0) this.problem = "There is no file in this folder, hidden ones apart.";
    await this.upload(found);
  }

  async #try(doing: string, send: (once: string) => Promise<void>): Promise<boolean> {
    if (!this.author.trim()) {
      this.problem = "Say whose writing it is: a short name.";
      return false;
    }
    this.sending = doing;
    this.problem = "";
    // Kept until the gateway has answered: sent again after a lost answer, it is the same job.
    this.#once ||= [...crypto.getRandomValues(new Uint8Array(16))]
      .map((byte) => byte.toString(16).padStart(2, "0"))
      .join("");
    try {
      await send(this.#once);
      this.#once = "";
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status !== 0) this.#once = "";
      this.problem = error.message;
      return false;
    } finally {
      this.sending = "";
    }
  }
}

export const ingest = new Ingest();
