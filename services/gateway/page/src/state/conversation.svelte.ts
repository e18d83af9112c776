/** One conversation: questions, and their answers as they stream in. */

import { ApiError, body, events, request } from "../api";
import type { Chunk, Citation, Finished, Started, Support } from "../types";
import { session } from "./session.svelte";

/** Text is shown in steps of this many milliseconds: smooth to read, cheap to lay out. */
const STEP = 40;
/** Messages of the conversation that are sent along; the gateway keeps them within its own budget. */
const HISTORY = 20;

export class Turn {
  readonly id = crypto.getRandomValues(new Uint32Array(1))[0]!;
  text = $state("");
  citations = $state.raw<Citation[]>([]);
  support = $state.raw<Support[]>([]);
  started = $state.raw<Started | null>(null);
  finished = $state.raw<Finished | null>(null);
  state = $state<"waiting" | "streaming" | "done" | "stopped" | "failed">("waiting");
  problem = $state.raw<ApiError | null>(null);

  constructor(
    readonly question: string,
    readonly model: string,
  ) {}

  get open(): boolean {
    return this.state === "waiting" || this.state === "streaming";
  }
}

class Conversation {
  turns = $state<Turn[]>([]);
  #abort: AbortController | null = null;

  get busy(): boolean {
    return this.turns.at(-1)?.open ?? false;
  }

  async ask(question: string): Promise<void> {
    if (this.busy) return;
    const messages = this.turns
      .filter((turn) => turn.text && turn.state !== "failed")
      .flatMap((turn) => [
        { role: "user", content: turn.question },
        { role: "assistant", content: turn.text },
      ])
      .slice(-HISTORY);
    this.turns.push(new Turn(question, session.model));
    // The element as the array holds it is the one that the page watches.
    const turn = this.turns.at(-1)!;
    const abort = new AbortController();
    this.#abort = abort;
    try {
      await answer(turn, [...messages, { role: "user", content: question }], abort.signal);
    } catch (error) {
      if (abort.signal.aborted) turn.state = "stopped";
      else if (error instanceof ApiError) fail(turn, error);
      else if (error instanceof TypeError)
        fail(turn, new ApiError("The connection broke off. What had come is above.", 0));
      else throw error;
    } finally {
      if (this.#abort === abort) this.#abort = null;
    }
  }

  stop(): void {
    this.#abort?.abort();
  }

  async again(turn: Turn): Promise<void> {
    if (this.busy) return;
    this.turns = this.turns.filter((other) => other !== turn);
    await this.ask(turn.question);
  }

  clear(): void {
    this.stop();
    this.turns = [];
  }
}

function fail(turn: Turn, problem: ApiError): void {
  turn.problem = problem;
  turn.state = "failed";
}

async function answer(turn: Turn, messages: { role: string; content: string }[], signal: AbortSignal): Promise<void> {
  const response = await request("/v1/chat/completions", {
    ...body({ model: turn.model, stream: true, messages }),
    signal,
  });
  let waiting = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  const show = () => {
    clearTimeout(timer);
    timer = undefined;
    turn.text += waiting;
    waiting = "";
  };
  try {
    for await (const { data } of events(response)) {
      if (data === "[DONE]") {
        ended = true;
        break;
      }
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error) throw new ApiError(chunk.error.message, 200, chunk.error.code ?? "");
      const text = chunk.choices?.[0]?.delta?.content;
      if (text) {
        turn.state = "streaming";
        waiting += text;
        timer ??= setTimeout(show, STEP);
      }
      const own = chunk.twin;
      if (own?.started) turn.started = own.started;
      if (own?.citation) turn.citations = [...turn.citations, own.citation];
      if (own?.support) turn.support = [...turn.support, own.support];
      if (own?.finished) turn.finished = own.finished;
    }
  } finally {
    show();
  }
  if (signal.aborted) turn.state = "stopped";
  else if (ended) turn.state = "done";
  else fail(turn, new ApiError("The answer broke off before its end.", 0));
}

export const conversation = new Conversation();
