/** The answer whose making is shown: its whole path, as the journal keeps it. */

import { ApiError, json } from "../api";
import type { Made } from "../types";

class Making {
  /** Whose; null: nothing is shown. */
  id = $state<string | null>(null);
  made = $state.raw<Made | null>(null);
  problem = $state.raw<ApiError | null>(null);

  async open(id: string): Promise<void> {
    this.id = id;
    this.made = null;
    this.problem = null;
    try {
      const made = await json<Made>(`/v1/generations/${encodeURIComponent(id)}`);
      if (this.id === id) this.made = made;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.id === id) this.problem = error;
    }
  }

  close(): void {
    this.id = null;
  }
}

export const making = new Making();
