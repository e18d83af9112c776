/**
 * Requests to the gateway.
 *
 * Comes in: paths and bodies. Goes out: JSON, or `ApiError` whose message is for people. Does not know: what is on
 * screen. The browser sends the cookie of the one-time link by itself; a pasted key lives in this tab's
 * sessionStorage only.
 */

import { createParser } from "eventsource-parser";

import type { Problem } from "./types";

const KEY = "twin.key";

export const apiKey = {
  get: (): string | null => sessionStorage.getItem(KEY),
  set: (key: string): void => sessionStorage.setItem(KEY, key),
  forget: (): void => sessionStorage.removeItem(KEY),
};

/** `status` is 0 where no answer came at all; `retryAfter` is in seconds. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string = "",
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

/** A new trace that begins here: W3C Trace Context. The last two digits: it is to be recorded. */
export function traceparent(): string {
  const digits = (bytes: number) =>
    Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `00-${digits(16)}-${digits(8)}-01`;
}

let unauthenticated: () => void = () => {};

/** Called at every 401: the page then shows its sign-in screen. */
export function onUnauthenticated(handler: () => void): void {
  unauthenticated = handler;
}

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("traceparent", traceparent());
  const key = apiKey.get();
  if (key) headers.set("Authorization", `Bearer ${key}`);
  if (init.method && init.method !== "GET") headers.set("X-Twin-Page", "1");
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("Twin does not answer. Is it still running? Start it with `twin up`, then try again.", 0);
  }
  if (response.ok) return response;
  if (response.status === 401) unauthenticated();
  throw await refusal(response);
}

export async function json<T>(path: string, init: RequestInit = {}): Promise<T> {
  return (await (await request(path, init)).json()) as T;
}

export function body(value: unknown, method = "POST"): RequestInit {
  return { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) };
}

/** Send a form, telling as it goes which part of it (0 to 1) is sent: fetch does not tell. */
export async function upload<T>(
  path: string,
  form: FormData,
  headers: Record<string, string>,
  sent: (part: number) => void,
): Promise<T> {
  const sending = new XMLHttpRequest();
  const response = await new Promise<Response>((resolve, reject) => {
    sending.open("POST", path);
    const key = apiKey.get();
    const all = {
      ...headers,
      traceparent: traceparent(),
      "X-Twin-Page": "1",
      ...(key ? { Authorization: `Bearer ${key}` } : {}),
    };
    for (const [name, value] of Object.entries(all)) sending.setRequestHeader(name, value);
    sending.upload.onprogress = (event) => event.lengthComputable && sent(event.loaded / event.total);
    sending.onerror = () =>
      reject(new ApiError("The upload broke off. Is Twin still running, and are the files still there?", 0));
    sending.onload = () => {
      const retry = sending.getResponseHeader("Retry-After");
      resolve(
        new Response(sending.responseText, { status: sending.status, headers: retry ? { "Retry-After": retry } : {} }),
      );
    };
    sending.send(form);
  });
  if (response.ok) return (await response.json()) as T;
  if (response.status === 401) unauthenticated();
  throw await refusal(response);
}

async function refusal(response: Response): Promise<ApiError> {
  const problem = await response
    .json()
    .then((answer: { error?: Problem }) => answer.error)
    .catch(() => undefined);
  const message = problem?.message || `The request was refused (HTTP ${response.status}).`;
  return new ApiError(message, response.status, problem?.code ?? "", retryAfter(response.headers.get("Retry-After")));
}

/** Seconds to wait, from either form of the header. */
export function retryAfter(header: string | null, now: number = Date.now()): number | null {
  if (!header) return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, Math.ceil(seconds));
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, Math.ceil((date - now) / 1000));
}

export interface ServerEvent {
  event: string;
  data: string;
}

/** The server-sent events of a response, as they come. Leaving the loop early cancels the request. */
export async function* events(response: Response): AsyncGenerator<ServerEvent> {
  const waiting: ServerEvent[] = [];
  const parser = createParser({
    onEvent: ({ event, data }) => waiting.push({ event: event ?? "message", data }),
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      parser.feed(value);
      while (waiting.length) yield waiting.shift()!;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
