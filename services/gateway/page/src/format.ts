/** Dates, durations, numbers and scores in words. */

import type { Narrowed, Passage, Support } from "./types";

const day = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeZone: "UTC" });
const count = new Intl.NumberFormat("en");

/** `2024-05-01` → `May 1, 2024`; what is no date stays as it is. */
export function date(iso: string | null): string {
  if (!iso) return "";
  const time = Date.parse(iso);
  return Number.isNaN(time) ? iso : day.format(time);
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count.format(value)} ${value === 1 ? one : many}`;
}

/** `75` → `about 1 min left`. */
export function timeLeft(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return "";
  if (seconds < 5) return "a moment left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `about ${Math.max(1, minutes)} min left`;
  return `about ${Math.round(minutes / 60)} h left`;
}

/** An address that may be opened in the browser: http or https, nothing else. */
export function openable(address: string): string | null {
  try {
    const url = new URL(address);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

/** What to call a document that has no title. */
export function named(document: { title: string; url: string }): string {
  return document.title || document.url || "Untitled";
}

/** `0.42` → `0.4 ms`, `1234` → `1.2 s`. */
export function milliseconds(value: number): string {
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

/** What a search was narrowed to; empty: nothing. */
export function filters(it: Narrowed): string {
  return [
    ...it.authors.map((name) => `by ${name}`),
    ...it.sources.map((name) => `from ${name}`),
    ...it.languages.map((name) => `in ${name}`),
    ...(it.since ? [`since ${date(it.since)}`] : []),
    ...(it.until ? [`until ${date(it.until)}`] : []),
  ].join(" · ");
}

/** `2 supported, 1 unsupported`. */
export function verdicts(support: readonly Support[]): string {
  const counts = new Map<string, number>();
  for (const { verdict } of support) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  return [...counts].map(([verdict, number]) => `${number} ${verdict}`).join(", ");
}

const STAGES = ["dense", "text", "fused", "rerank"];

/** The stages that scored any of the passages, in the order in which they did. */
export function stages(passages: readonly Passage[]): string[] {
  const found = new Set(passages.flatMap((it) => Object.keys(it.scores)));
  return [...STAGES.filter((name) => found.delete(name)), ...[...found].sort()];
}
