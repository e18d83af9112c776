/** Where on the page we are: kept in the address after `#`, so that back, forward and reload work. */

export type View = "chat" | "library";

function read(): View {
  return location.hash === "#/library" ? "library" : "chat";
}

class Place {
  view = $state<View>(read());
  help = $state(false);

  constructor() {
    addEventListener("hashchange", () => (this.view = read()));
  }

  go(view: View): void {
    location.hash = view === "library" ? "#/library" : "#/";
    this.view = view;
  }
}

export const place = new Place();
