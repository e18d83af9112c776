/**
 * Questions to begin with, made from a library's own titles.
 *
 * Comes in: titles. Goes out: questions that a search for their words answers. Does not know: what the documents say.
 */

const SITE_NAME = /\s+[|·—–]\s+[^|·—–]{1,40}$/;

export function question(title: string): string {
  const subject = title.replace(SITE_NAME, "").trim();
  if (/\?$/.test(subject)) return subject;
  const how = /^how to (.+)$/i.exec(subject);
  if (how) return `How do I ${how[1]}?`;
  if (/^(?:why|how|what|when|where|who)\b/i.test(subject)) return `${subject}?`;
  return `What is there to know about “${subject}”?`;
}

/** At most `most` different questions, short enough to read at a glance. */
export function questions(titles: readonly string[], most: number): string[] {
  const fit = titles.filter((title) => title.trim().length >= 3 && title.length <= 90);
  return [...new Set(fit.map(question))].slice(0, most);
}
