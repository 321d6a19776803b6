// Four addresses: `/`, `/c/<conversation>`, `/models`, `/status`. The server gives the same page for each.

type Route = { page: "chat"; id: string | null } | { page: "models" } | { page: "status" };

function parse(path: string): Route {
  if (path === "/models" || path === "/status") return { page: path.slice(1) as "models" | "status" };
  const id = /^\/c\/([\w-]{1,64})$/.exec(path)?.[1];
  return { page: "chat", id: id ?? null };
}

class Router {
  route = $state<Route>(parse(location.pathname));

  constructor() {
    addEventListener("popstate", () => (this.route = parse(location.pathname)));
  }

  go(path: string, replace = false) {
    if (path !== location.pathname) history[replace ? "replaceState" : "pushState"](null, "", path);
    this.route = parse(path);
  }

  /** For links: the browser keeps its own ways of opening a new tab. */
  follow = (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    this.go((event.currentTarget as HTMLAnchorElement).pathname);
  };
}

export const router = new Router();
