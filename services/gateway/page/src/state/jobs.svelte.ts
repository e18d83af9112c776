/**
 * Ingest jobs on their way. The gateway keeps their state, so a reload finds them again; this follows each by its
 * event stream and, where that breaks, asks and connects again.
 */

import { ApiError, body, events, json, request, upload } from "../api";
import type { Job } from "../types";
import { library } from "./library.svelte";
import { session } from "./session.svelte";
import type { Named } from "./dropped";

/** Jobs that ended this recently are still shown after a reload, if something in them failed. */
const RECENT = 24 * 3600 * 1000;
/** Milliseconds between looks at the library while documents arrive. */
const REFRESH = 2000;

const SEEN = "twin.dismissedJobs";

export function ended(job: Job): boolean {
  return job.state === "done" || job.state === "failed" || job.state === "cancelled";
}

class Jobs {
  list = $state.raw<Job[]>([]);
  #followed = new Set<string>();
  #refreshed = 0;

  get running(): Job[] {
    return this.list.filter((job) => !ended(job));
  }

  async load(): Promise<void> {
    const { data } = await json<{ data: Job[] }>("/v1/ingest-jobs");
    const dismissed = new Set(JSON.parse(sessionStorage.getItem(SEEN) ?? "[]") as string[]);
    const since = Date.now() - RECENT;
    for (const job of data) {
      const worthSeeing =
        !ended(job) ||
        (job.state !== "cancelled" &&
          (job.state === "failed" || job.failures.length > 0) &&
          Date.parse(job.updated_at) > since);
      if (worthSeeing && !dismissed.has(job.id)) this.#put(job);
      if (!ended(job)) void this.#follow(job.id);
    }
  }

  /** `once` makes a repeated press, or a second try after a lost answer, the same job. */
  async start(author: string, addresses: string[], once: string): Promise<void> {
    const init = body({ author, sources: addresses });
    const headers = { ...(init.headers as Record<string, string>), "Idempotency-Key": once };
    this.#begun(await json<Job>("/v1/ingest-jobs", { ...init, headers }));
  }

  /** `sent` is told which part of the bytes, 0 to 1, is on its way. */
  async upload(author: string, files: Named[], once: string, sent: (part: number) => void): Promise<void> {
    const form = new FormData();
    form.set("author", author);
    for (const { file, name } of files) form.append("file", file, name);
    this.#begun(await upload<Job>("/v1/documents", form, { "Idempotency-Key": once }, sent));
  }

  async cancel(job: Job): Promise<void> {
    await request(`/v1/ingest-jobs/${encodeURIComponent(job.id)}`, { method: "DELETE" });
    await this.#ask(job.id);
  }

  async retry(job: Job): Promise<void> {
    await request(`/v1/ingest-jobs/${encodeURIComponent(job.id)}/retry`, { method: "POST" });
    await this.#ask(job.id);
    void this.#follow(job.id);
  }

  dismiss(job: Job): void {
    this.list = this.list.filter((other) => other.id !== job.id);
    const dismissed = JSON.parse(sessionStorage.getItem(SEEN) ?? "[]") as string[];
    sessionStorage.setItem(SEEN, JSON.stringify([...dismissed, job.id].slice(-200)));
  }

  #begun(job: Job): void {
    this.#put(job);
    void this.#follow(job.id);
  }

  #put(job: Job): void {
    const known = this.list.some((other) => other.id === job.id);
    this.list = known ? this.list.map((other) => (other.id === job.id ? job : other)) : [job, ...this.list];
  }

  async #ask(id: string): Promise<Job> {
    const job = await json<Job>(`/v1/ingest-jobs/${encodeURIComponent(id)}`);
    this.#put(job);
    return job;
  }

  async #follow(id: string): Promise<void> {
    if (this.#followed.has(id)) return;
    this.#followed.add(id);
    let pause = 500;
    try {
      for (;;) {
        try {
          const response = await request(`/v1/ingest-jobs/${encodeURIComponent(id)}/events`);
          for await (const { event, data } of events(response)) {
            if (event !== "progress" && event !== "end") continue;
            pause = 500;
            this.#put(JSON.parse(data) as Job);
            this.#look();
            if (event === "end") break;
          }
          if (ended(await this.#ask(id))) break;
        } catch (error) {
          if (!(error instanceof ApiError || error instanceof TypeError)) throw error;
          if (error instanceof ApiError && [401, 403, 404].includes(error.status)) break;
        }
        await new Promise((resume) => setTimeout(resume, pause));
        pause = Math.min(pause * 2, 15_000);
      }
    } finally {
      this.#followed.delete(id);
    }
    this.#refreshed = 0;
    this.#look();
  }

  #look(): void {
    if (Date.now() - this.#refreshed < REFRESH) return;
    this.#refreshed = Date.now();
    void library.load();
    void library.survey(session.model);
    void session.refreshModels().catch(() => {});
  }
}

export const jobs = new Jobs();
