/** The small card that a chip shows while the pointer or the focus is on it. */

import type { Citation } from "../types";

/** Milliseconds that the card stays, for the pointer to reach it. */
const LINGER = 160;

class Card {
  citation = $state.raw<Citation | null>(null);
  anchor = $state.raw<HTMLElement | null>(null);
  #timer: ReturnType<typeof setTimeout> | undefined;

  show(citation: Citation, anchor: HTMLElement): void {
    this.keep();
    this.anchor?.removeAttribute("aria-describedby");
    this.citation = citation;
    this.anchor = anchor;
    anchor.setAttribute("aria-describedby", "source-card");
  }

  keep(): void {
    clearTimeout(this.#timer);
  }

  leave(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.hide(), LINGER);
  }

  hide(): void {
    clearTimeout(this.#timer);
    this.anchor?.removeAttribute("aria-describedby");
    this.citation = null;
    this.anchor = null;
  }
}

export const card = new Card();
