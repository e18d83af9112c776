/**
 * One conversation for each twin: questions, and their answers as they stream in. This tab remembers them over a
 * reload, and forgets them when it is closed.
 */

import { ApiError, body, events, request } from "../api";
import type { Chunk, Citation, Finished, Started, Support } from "../types";
import { session } from "./session.svelte";

/** Text is shown in steps of this many milliseconds: smooth to read, cheap to lay out. */
const STEP = 40;
/** Messages of the conversation that are sent along; the gateway keeps them within its own budget. */
const HISTORY = 20;
/** Turns of one conversation that outlive a reload. */
const KEPT = 30;

/** A turn as it is remembered. */
type Kept = Pick<Turn, "question" | "model" | "text" | "citations" | "support" | "started" | "finished">;

export class Turn {
  readonly id = crypto.getRandomValues(new Uint32Array(1))[0]!;
  text = $state("");
  citations = $state.raw<Citation[]>([]);
  support = $state.raw<Support[]>([]);
  started = $state.raw<Started | null>(null);
  finished = $state.raw<Finished | null>(null);
  state = $state<"waiting" | "streaming" | "done" | "stopped" | "failed">("waiting");
  problem = $state.raw<ApiError | null>(null);

  /** `remembered`: from before a reload, so it is not read aloud again. */
  constructor(
    readonly question: string,
    readonly model: string,
    readonly remembered = false,
  ) {}

  get open(): boolean {
    return this.state === "waiting" || this.state === "streaming";
  }
}

class Conversation {
  turns = $state<Turn[]>([]);
  #abort: AbortController | null = null;
  /** Where this conversation is remembered; null: nowhere yet. */
  #place: string | null = null;

  constructor() {
    addEventListener("pagehide", () => this.#keep(this.#place, this.turns));
  }

  /** Go on with the conversation that this key has with this twin. */
  open(key: string, model: string): void {
    const place = `twin.conversation.${key}.${model}`;
    if (place === this.#place) return;
    this.#keep(this.#place, this.turns);
    this.stop();
    this.#place = place;
    this.turns = remembered(place);
  }

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
    const place = this.#place;
    const turns = this.turns;
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
      // Unless it was begun anew meanwhile.
      if (this.turns === turns || this.#place !== place) this.#keep(place, turns);
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
    this.#keep(this.#place, this.turns);
  }

  #keep(place: string | null, turns: Turn[]): void {
    if (place === null) return;
    const kept = turns
      .filter((turn) => turn.text)
      .slice(-KEPT)
      .map((turn): Kept => {
        const { question, model, text, citations, support, started, finished } = turn;
        return { question, model, text, citations, support, started, finished };
      });
    try {
      if (kept.length === 0) sessionStorage.removeItem(place);
      else sessionStorage.setItem(place, JSON.stringify(kept));
    } catch (error) {
      // Storage is full, or shut off: this conversation ends with the page.
      if (!(error instanceof DOMException)) throw error;
    }
  }
}

function remembered(place: string): Turn[] {
  let kept: Kept[];
  try {
    kept = JSON.parse(sessionStorage.getItem(place) ?? "[]") as Kept[];
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return [];
  }
  return kept.map(({ question, model, ...rest }) =>
    // An answer that the reload cut off stays as far as it had come.
    Object.assign(new Turn(question, model, true), rest, { state: rest.finished ? "done" : "stopped" }),
  );
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
