/**
 * Files that were dropped, those in folders too.
 *
 * Comes in: what a drop carries. Goes out: files with their paths below what was dropped. Does not know: what becomes of
 * them. Hidden files and folders stay out, as with a folder that the command line brings in.
 */

/** `name` is the path, with `/`. */
export interface Named {
  file: File;
  name: string;
}

/** The most that the gateway takes at once. */
export const MOST = 1000;

/** In the order of their paths; one more than `MOST` at the most, so that too many are noticed and not walked. */
export async function walk(entries: readonly FileSystemEntry[]): Promise<Named[]> {
  const found: Named[] = [];
  const waiting = [...entries];
  while (waiting.length > 0 && found.length <= MOST) {
    const entry = waiting.pop()!;
    if (entry.name.startsWith(".")) continue;
    if (entry.isDirectory) waiting.push(...(await children(entry as FileSystemDirectoryEntry)));
    else found.push({ file: await opened(entry as FileSystemFileEntry), name: entry.fullPath.replace(/^\/+/, "") });
  }
  return found.sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** A reader gives some at a time (Chromium: 100), and nothing at the end. */
async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

function opened(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
