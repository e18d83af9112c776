/** Who is here, which twins may be asked, and how the page looks. */

import { apiKey, json, onUnauthenticated } from "../api";
import type { Status } from "../types";

type Theme = "system" | "light" | "dark";

/** Storage may be shut off in a private window: the page then forgets, and goes on. */
function stored(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch (error) {
    if (error instanceof DOMException) return null;
    throw error;
  }
}

function store(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}

class Session {
  state = $state<"starting" | "in" | "out" | "unreachable">("starting");
  status = $state<Status | null>(null);
  /** Twins that may be asked: "twin" (everyone at once) first, then each author. */
  models = $state<string[]>(["twin"]);
  #model = $state(sessionStorage.getItem("twin.model") ?? "twin");
  theme = $state<Theme>((stored("twin.theme") as Theme | null) ?? "system");
  singleKeys = $state(stored("twin.singleKeys") !== "off");

  get model(): string {
    return this.#model;
  }

  /** This tab keeps it over a reload. */
  set model(name: string) {
    this.#model = name;
    sessionStorage.setItem("twin.model", name);
  }

  get mayWrite(): boolean {
    return this.status !== null && this.status.key.role !== "reader";
  }

  /** Authors whose writing may be brought in without naming a new one. */
  get authors(): string[] {
    return this.models.filter((model) => model !== "twin");
  }

  constructor() {
    onUnauthenticated(() => {
      apiKey.forget();
      this.state = "out";
    });
  }

  async start(): Promise<void> {
    try {
      this.status = await json<Status>("/v1/status");
      await this.refreshModels();
      this.state = "in";
    } catch {
      // A 401 has set "out" by now; anything else means that nobody answers properly.
      if ((this.state as string) !== "out") this.state = "unreachable";
    }
  }

  async refreshModels(): Promise<void> {
    const { data } = await json<{ data: { id: string }[] }>("/v1/models");
    const names = data.map((model) => model.id);
    this.models = ["twin", ...names.filter((name) => name !== "twin").sort()];
    if (!this.models.includes(this.model)) this.model = "twin";
  }

  async signIn(key: string): Promise<void> {
    apiKey.set(key);
    await this.start();
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    store("twin.theme", theme);
    this.showTheme();
  }

  showTheme(): void {
    if (this.theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
  }

  setSingleKeys(on: boolean): void {
    this.singleKeys = on;
    store("twin.singleKeys", on ? "on" : "off");
  }
}

export const session = new Session();
