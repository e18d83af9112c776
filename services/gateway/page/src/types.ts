/** What the gateway's JSON holds, as docs/http-api.md describes it. Spans count Unicode code points. */

export type Evidence = "answer" | "closest" | "none" | "uncalibrated";
export type Verdict = "supported" | "unsupported" | "quoted" | "unchecked";

export interface Passage {
  text: string;
  score: number;
  scores: Record<string, number>;
  start: number;
  end: number;
  heading: string;
  chunk_id: string;
  version: number;
  document: { id: string; title: string; url: string; author: string; published: string | null };
}

export interface Citation {
  number: number;
  document_id: string;
  version: number;
  title: string;
  url: string;
  author: string;
  heading: string;
  start: number;
  end: number;
  quote: string;
  answer_start: number;
  answer_end: number;
  published: string | null;
  chunk_id: string;
}

export interface Support {
  start: number;
  end: number;
  verdict: Verdict;
  score: number;
}

export interface Started {
  generation_id: string;
  model: string;
  evidence: Evidence;
  question: string;
  notices: string[];
  passages: Passage[];
}

export interface Finished {
  reason: string;
  timings: Record<string, number>;
}

export interface Step {
  name: string;
  detail: string;
  milliseconds: number;
  candidates: number;
}

export interface Narrowed {
  authors: string[];
  sources: string[];
  languages: string[];
  since: string | null;
  until: string | null;
}

/** A kept answer with everything it was made of. */
export interface Made {
  id: string;
  model: string;
  question: string;
  evidence: Evidence;
  confidence: number | null;
  citations: Citation[];
  support: Support[];
  usage: { prompt_tokens: number; completion_tokens: number };
  timings: Record<string, number>;
  redacted: boolean;
  trace: string;
  messages: { role: string; content: string }[];
  queries: string[];
  filter: Narrowed;
  steps: Step[];
  passages: Passage[];
  prompt: string;
}

export interface Problem {
  message: string;
  type: string;
  code: string | null;
  param: string | null;
}

/** One streamed `chat.completion.chunk`, or an error in its place. */
export interface Chunk {
  error?: Problem;
  choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[];
  twin?: { started?: Started; citation?: Citation; support?: Support; finished?: Finished };
}

export type DocumentState = "queued" | "indexed" | "updating" | "failed" | "duplicate" | "deleted";

export interface DocumentRecord {
  id: string;
  author: string;
  url: string;
  title: string;
  byline: string;
  kind: string;
  language: string | null;
  published: string | null;
  state: DocumentState;
  version: number;
  indexed_version: number | null;
  characters: number;
  chunks: number;
  failure: string | null;
  duplicate_of: string | null;
  updated_at: string;
}

export interface DocumentText extends DocumentRecord {
  text: string;
  /** Of the text; `version` is the newest. */
  text_version: number;
}

export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface SourceProgress {
  source_id: string;
  address: string;
  kind: string | null;
  state: JobState;
  seconds_left: number | null;
  failure: string | null;
  progress: {
    total: number | null;
    seen: number;
    new: number;
    changed: number;
    unchanged: number;
    skipped: number;
    failed: number;
    current: string;
  };
}

export interface Job {
  id: string;
  author: string;
  state: JobState;
  seconds_left: number | null;
  created_at: string;
  updated_at: string;
  documents: { queued: number; indexed: number; failed: number };
  sources: SourceProgress[];
  failures: { address: string; code: string; message: string }[];
}

export interface Status {
  version: string;
  answers: string;
  answers_hint: string;
  key: { id: string; name: string; role: "reader" | "writer" | "admin"; authors: string[] | null };
}
