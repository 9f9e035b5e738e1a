// A picture in the panel: zoomed, dragged, searched, and its nodes chosen, by pointer or keyboard.
//
// Traits: `picture` ({svg, text, alt, nodes, edges}; see pulpo/backends/scene.py), `moments` ({id:
// [state, words]}), `selected` (a node's key), `detail` ({key, html}), `direction`, `frames`.
// Messages to the kernel: {type: "toggle", group} and {type: "all", open}.

const ZOOM = { least: 0.05, most: 4, step: 1.25, readable: 0.6 };
const TALLEST = 480; // pixels of the stage
const SLACK = 4; // pixels that a pointer may move in a click
const STATES = [
  "problem", "stale", "pending", "running", "done", "cached", "failed", "cancelled", "not-reached",
];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// --- What can be told without a page ------------------------------------------------------------

// All that a node needs ("up"), or all that needs it ("down"), by key.
export function reach(edges, key, way) {
  const [from, to] = way === "up" ? ["target", "source"] : ["source", "target"];
  const next = new Map();
  for (const edge of edges) {
    if (!next.has(edge[from])) next.set(edge[from], []);
    next.get(edge[from]).push(edge[to]);
  }
  const seen = new Set();
  const todo = [key];
  while (todo.length) {
    for (const other of next.get(todo.pop()) ?? []) {
      if (seen.has(other) || other === key) continue;
      seen.add(other);
      todo.push(other);
    }
  }
  return seen;
}

// The nodes that have every word of a text in their names, lines or members.
export function matching(nodes, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  return nodes.filter((node) => {
    const members = node.kind === "group" ? node.members : [];
    const said = [node.name, ...node.lines, ...members].join(" ").toLowerCase();
    return words.every((word) => said.includes(word));
  });
}

// The index of the box that a person means who presses an arrow key: near, and in that direction.
export function nearest(boxes, from, [x, y]) {
  let best = -1;
  let least = Infinity;
  boxes.forEach((box, index) => {
    const along = (box.x - boxes[from].x) * x + (box.y - boxes[from].y) * y;
    const aside = Math.abs((box.x - boxes[from].x) * y) + Math.abs((box.y - boxes[from].y) * x);
    const far = along + 2 * aside;
    if (index === from || along <= 1 || far >= least) return;
    [best, least] = [index, far];
  });
  return best;
}

// --- Elements -----------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(label, told, act) {
  const made = element("button", { type: "button", class: "pulpo-button", title: told }, label);
  if (label.length < 3) made.setAttribute("aria-label", told);
  made.addEventListener("click", act);
  return made;
}

// The notebook's one-letter shortcuts (x cuts the cell) must not hear what is typed in the panel,
// and JupyterLab looks for this attribute on the very element that has the focus.
function keepShortcutsOut(event) {
  event.target.setAttribute("data-lm-suppress-shortcuts", "true");
}

// What changes by itself is read out; the panel's other widgets cannot say so themselves.
function dress(panel) {
  panel.addEventListener("focusin", keepShortcutsOut);
  panel.setAttribute("role", "group");
  panel.setAttribute("aria-label", "Pulpo");
  for (const live of panel.querySelectorAll(".pulpo-status")) live.setAttribute("role", "status");
}

// --- The picture --------------------------------------------------------------------------------

class Graph {
  constructor(model, el) {
    this.model = model;
    this.scale = 0; // nothing was laid out yet
    this.touched = false; // a person zoomed: keep that
    this.shown = new Map(); // what each node's state was last set to
    this.ends = new AbortController();
    el.classList.add("pulpo-graph");
    this.paper = element("div", { class: "pulpo-paper" });
    this.stage = element("div", { class: "pulpo-stage", role: "region" }, this.paper);
    this.tip = element("div", { class: "pulpo-tip", role: "tooltip" });
    this.tip.hidden = true;
    this.detail = element("section", { class: "pulpo-detail", "aria-label": "Details" });
    const frame = element("div", { class: "pulpo-frame" }, this.stage, this.tip);
    el.append(this.bar(), element("div", { class: "pulpo-split" }, frame, this.detail));
    this.listen();
    this.draw();
  }

  bar() {
    const { model } = this;
    this.search = element("input", {
      type: "search", class: "pulpo-search", placeholder: "Search", "aria-label": "Search",
    });
    this.found = element("span", { class: "pulpo-found", role: "status" });
    this.turn = button("Left to right", "Let the picture go on to the right", () =>
      this.set("direction", model.get("direction") === "right" ? "down" : "right"));
    this.framed = button("Groups", "Draw a frame around each group", () =>
      this.set("frames", !model.get("frames")));
    const all = (open) => () => model.send({ type: "all", open });
    this.folds = [
      button("Collapse all", "Draw each group as one node", all(false)),
      button("Expand all", "Draw every operation", all(true)),
    ];
    return element(
      "div",
      { class: "pulpo-bar", role: "toolbar", "aria-label": "Picture" },
      this.search,
      this.found,
      button("−", "Zoom out", () => this.zoom(1 / ZOOM.step)),
      button("+", "Zoom in", () => this.zoom(ZOOM.step)),
      button("Fit", "Show all of it", () => this.fit(0)),
      this.turn,
      this.framed,
      ...this.folds,
    );
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  listen() {
    const { model, stage, ends } = this;
    const on = (target, name, act, more = {}) =>
      target.addEventListener(name, act.bind(this), { signal: ends.signal, ...more });
    on(stage, "wheel", this.wheel, { passive: false });
    on(stage, "pointerdown", this.press);
    on(stage, "pointerover", (event) => this.hint(this.nodeOf(event.target)));
    on(stage, "pointerleave", () => this.hint(null));
    on(stage, "focusin", (event) => this.arrive(this.nodeOf(event.target)));
    on(stage, "focusout", () => this.hint(null));
    on(stage, "click", (event) => this.activate(this.nodeOf(event.target), event.target));
    on(stage, "keydown", this.key);
    on(this.search, "input", this.seek);
    on(this.search, "keydown", this.seekKey);
    this.handlers = {
      "change:picture": () => this.draw(),
      "change:moments": () => this.colour(),
      "change:selected": () => this.select(),
      "change:detail": () => this.tell(),
      "change:direction": () => this.showButtons(),
      "change:frames": () => this.showButtons(),
    };
    for (const [name, act] of Object.entries(this.handlers)) model.on(name, act);
    // In a tab that is not shown nothing has a size; it comes when the tab is chosen.
    this.sizes = new ResizeObserver(() => {
      if (stage.clientWidth && (!this.scale || !this.touched)) this.fit(ZOOM.readable);
    });
    this.sizes.observe(stage);
  }

  close() {
    this.ends.abort();
    this.sizes.disconnect();
    for (const [name, act] of Object.entries(this.handlers)) this.model.off(name, act);
  }

  // - drawing -

  draw() {
    const { svg, text, alt, nodes = [], edges = [] } = this.model.get("picture");
    const focused = this.focused?.key;
    const hadFocus = this.stage.contains(document.activeElement);
    this.nodes = nodes;
    this.edges = edges;
    this.shown.clear();
    this.stage.setAttribute("aria-label", alt ?? "");
    if (svg) this.paper.innerHTML = svg;
    else {
      this.paper.replaceChildren(element("pre", {}, text ?? ""));
      this.paper.style.padding = this.stage.style.height = "";
    }
    this.svg = this.paper.querySelector("svg");
    this.byKey = new Map(nodes.map((node) => [node.key, node]));
    this.elements = new Map();
    this.focused = null;
    if (this.svg) this.prepare(focused);
    const folded = nodes.some((node) => node.kind === "group");
    const open = nodes.some((node) => node.kind === "frame");
    this.folds[0].hidden = !open;
    this.folds[1].hidden = !folded;
    this.showButtons();
    this.colour();
    this.select();
    this.seek();
    if (this.stage.clientWidth) {
      if (this.touched && this.scale) this.resize();
      else this.fit(ZOOM.readable);
    }
    if (hadFocus) this.elements.get(this.focused)?.focus({ preventScroll: true });
  }

  // Give every node its name, its place in the order of the arrow keys, and a sign when it folds.
  prepare(focused) {
    const [width, height] = ["width", "height"].map((name) => Number(this.svg.getAttribute(name)));
    this.size = { width, height };
    this.svg.setAttribute("role", "group");
    this.svg.querySelector(":scope > title")?.remove();
    this.svg.querySelector(":scope > desc")?.remove();
    for (const node of this.nodes) {
      const made = this.svg.querySelector(`[id="${CSS.escape(node.id)}"]`);
      if (!made) continue;
      this.elements.set(node, made);
      made.querySelector("title")?.remove();
      made.setAttribute("role", "button");
      made.setAttribute("tabindex", "-1");
      made.setAttribute("aria-label", this.label(node));
      made.setAttribute("data-key", node.key);
      if (node.kind === "group" || node.kind === "frame") {
        const text = made.querySelector("text");
        text.prepend(node.kind === "group" ? "▸ " : "▾ ");
        made.setAttribute("aria-expanded", String(node.kind === "frame"));
      }
    }
    this.focused = this.byKey.get(focused) ?? this.nodes.find((node) => this.elements.has(node));
    this.elements.get(this.focused)?.setAttribute("tabindex", "0");
  }

  label(node) {
    const words = this.model.get("moments")[node.id]?.[1];
    return words ? `${node.label}, ${words}` : node.label;
  }

  showButtons() {
    this.turn.setAttribute("aria-pressed", String(this.model.get("direction") === "right"));
    this.framed.setAttribute("aria-pressed", String(this.model.get("frames")));
    this.framed.hidden = !this.model.get("has_frames");
  }

  // Only what differs: a hundred nodes may change ten times a second.
  colour() {
    const moments = this.model.get("moments");
    for (const [node, made] of this.elements) {
      const [state, words] = moments[node.id] ?? [];
      const now = `${state} ${words}`;
      if (state === undefined || this.shown.get(node.id) === now) continue;
      this.shown.set(node.id, now);
      made.classList.remove(...STATES);
      made.classList.add(state);
      const sign = made.querySelector("text.sign");
      if (sign) sign.textContent = words;
      made.setAttribute("aria-label", this.label(node));
    }
  }

  // - size and place -

  // Show all of it, but not smaller than `least`.
  fit(least) {
    this.touched = false;
    if (!this.svg) return;
    const wide = this.stage.clientWidth / this.size.width;
    const high = TALLEST / this.size.height;
    this.scale = Math.max(Math.min(1, wide, high), least, ZOOM.least);
    this.resize();
    this.stage.scrollTo(this.room.x, this.room.y);
  }

  resize() {
    if (!this.svg) return;
    const { width, height } = this.size;
    Object.assign(this.svg.style, {
      width: `${width * this.scale}px`, height: `${height * this.scale}px`,
      minWidth: "0", maxWidth: "none",
    });
    this.stage.style.height = `${Math.min(TALLEST, Math.max(90, height * this.scale + 4))}px`;
    // Ground around it: else what is under the pointer could not stay there near an edge.
    this.room = { x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 };
    const { x, y } = this.room;
    this.paper.style.padding = `${y}px ${2 * x}px ${2 * y}px ${x}px`;
  }

  zoom(factor, at) {
    if (!this.svg) return;
    const { stage } = this;
    const box = stage.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - box.left, at.clientY - box.top] : this.middle(box);
    const { scale, room } = this;
    this.scale = Math.min(ZOOM.most, Math.max(ZOOM.least, scale * factor));
    const ratio = this.scale / scale;
    const [left, top] = [stage.scrollLeft + x - room.x, stage.scrollTop + y - room.y];
    this.touched = true;
    this.resize();
    const fits = !at && this.size.width * this.scale <= stage.clientWidth;
    const to = fits ? this.room.x : left * ratio + this.room.x - x;
    stage.scrollTo(to, top * ratio + this.room.y - y);
  }

  // The middle of what can be seen of the picture, in the stage whose box is given.
  middle(box) {
    const drawn = this.svg.getBoundingClientRect();
    const mid = (from, to, start, end) => (Math.max(from, start) + Math.min(to, end)) / 2 - from;
    return [
      mid(box.left, box.right, drawn.left, drawn.right),
      mid(box.top, box.bottom, drawn.top, drawn.bottom),
    ];
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.002), event);
  }

  press(event) {
    if (event.button !== 0) return;
    const { stage } = this;
    const from = { x: event.clientX, y: event.clientY };
    const at = { left: stage.scrollLeft, top: stage.scrollTop };
    this.dragged = false;
    const move = (now) => {
      const [x, y] = [now.clientX - from.x, now.clientY - from.y];
      if (!this.dragged && Math.hypot(x, y) < SLACK) return;
      this.dragged = true;
      this.hint(null);
      stage.classList.add("is-dragged");
      stage.scrollTo(at.left - x, at.top - y);
    };
    const ends = new AbortController();
    const end = () => {
      ends.abort();
      stage.classList.remove("is-dragged");
    };
    addEventListener("pointermove", move, { signal: ends.signal });
    addEventListener("pointerup", end, { signal: ends.signal });
    addEventListener("pointercancel", end, { signal: ends.signal });
  }

  // - choosing -

  nodeOf(target) {
    const made = target.closest?.("[data-key]");
    return made && this.stage.contains(made) ? this.byKey.get(made.getAttribute("data-key")) : null;
  }

  // `target` is what was clicked: of a frame only its name counts, the rest is ground to drag.
  activate(node, target) {
    if (target && this.dragged) return;
    const ground = node?.kind === "frame" && target?.closest(".cluster") && !target.closest("text");
    if (!node || ground) {
      if (target) this.set("selected", "");
      return;
    }
    this.focus(node);
    if (node.kind === "group" || node.kind === "frame") {
      this.model.send({ type: "toggle", group: node.name });
    } else this.set("selected", node.key === this.model.get("selected") && !target ? "" : node.key);
  }

  key(event) {
    const arrow = ARROWS[event.key];
    const acts = {
      "+": () => this.zoom(ZOOM.step), "=": () => this.zoom(ZOOM.step),
      "-": () => this.zoom(1 / ZOOM.step), 0: () => this.fit(0),
      Enter: () => this.activate(this.focused), " ": () => this.activate(this.focused),
      Escape: () => this.set("selected", ""),
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!arrow && !acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    if (arrow) this.step(arrow);
    else acts[event.key]();
  }

  // However the focus came there: the arrow keys go on from it.
  arrive(node) {
    if (node && node !== this.focused) {
      this.elements.get(this.focused)?.setAttribute("tabindex", "-1");
      this.elements.get(node)?.setAttribute("tabindex", "0");
      this.focused = node;
    }
    this.hint(node);
  }

  step(arrow) {
    const nodes = [...this.elements.keys()];
    const boxes = nodes.map((node) => {
      const made = this.elements.get(node);
      // A frame stands where its name stands.
      const box = (node.kind === "frame" ? made.querySelector("text") : made)
        .getBoundingClientRect();
      return { x: box.left + box.width / 2, y: box.top + box.height / 2 };
    });
    const next = nearest(boxes, nodes.indexOf(this.focused), arrow);
    if (next >= 0) this.focus(nodes[next]);
  }

  focus(node) {
    const made = this.elements.get(node);
    if (!made) return;
    made.focus({ preventScroll: true });
    this.reveal(made);
  }

  // Scroll the stage, and nothing around it, so that the node can be seen.
  reveal(made) {
    const [box, frame] = [made.getBoundingClientRect(), this.stage.getBoundingClientRect()];
    const by = (start, end, from, to) =>
      start < from + 8 ? start - from - 8 : end > to - 8 ? Math.min(end - to + 8, start - from - 8) : 0;
    this.stage.scrollBy(
      by(box.left, box.right, frame.left, frame.right),
      by(box.top, box.bottom, frame.top, frame.bottom),
    );
  }

  select() {
    const key = this.model.get("selected");
    const node = this.byKey.get(key);
    const up = node ? reach(this.edges, key, "up") : new Set();
    const down = node ? reach(this.edges, key, "down") : new Set();
    this.mark("is-selected", (each) => each === key);
    this.mark("is-up", (each) => up.has(each));
    this.mark("is-down", (each) => down.has(each));
    this.stage.classList.toggle("has-selected", Boolean(node));
    for (const edge of this.svg?.querySelectorAll("[data-source]") ?? []) {
      const [from, to] = [edge.getAttribute("data-source"), edge.getAttribute("data-target")];
      const into = (up.has(from) || from === key) && (up.has(to) || to === key);
      const out = (down.has(from) || from === key) && (down.has(to) || to === key);
      edge.classList.toggle("is-way", into || out);
    }
    this.tell();
  }

  mark(name, test) {
    for (const [node, made] of this.elements) {
      made.classList.toggle(name, test(node.key));
      const folds = made.hasAttribute("aria-expanded");
      if (name === "is-selected" && !folds) made.setAttribute("aria-pressed", test(node.key));
    }
  }

  // What is known of the chosen node: here at once, its source as soon as the kernel answers.
  tell() {
    const key = this.model.get("selected");
    const node = this.byKey.get(key);
    this.detail.hidden = !node;
    if (!node) return;
    const close = button("×", "Close", () => this.set("selected", ""));
    const head = element("header", {}, element("h4", {}, node.name), close);
    const ways = [["Needs", "up"], ["Needed by", "down"]].map(([title, way]) =>
      this.way(title, reach(this.edges, key, way)));
    const more = element("div", { class: "pulpo-more" });
    const detail = this.model.get("detail");
    if (detail.key === key && detail.html) more.innerHTML = detail.html;
    else more.append(...node.lines.map((line) => element("div", {}, line)));
    this.detail.replaceChildren(head, more, ...ways);
  }

  way(title, keys) {
    const shown = this.nodes.filter((node) => keys.has(node.key));
    const names = shown.slice(0, 12).map((node) =>
      button(node.name, `Choose ${node.name}`, () => {
        this.focus(node);
        this.set("selected", node.key);
      }));
    const more = shown.length > 12 ? [` and ${shown.length - 12} more`] : [];
    const list = shown.length ? [...names, ...more] : ["nothing"];
    return element("div", { class: "pulpo-way" }, element("span", {}, `${title}: `), ...list);
  }

  hint(node) {
    this.tip.hidden = !node;
    if (!node) return;
    const words = this.model.get("moments")[node.id]?.[1];
    const lines = [...node.lines, ...(words ? [words] : [])];
    this.tip.replaceChildren(
      element("b", {}, node.name), ...lines.map((line) => element("div", {}, line)));
    const text = this.elements.get(node);
    const made = node.kind === "frame" ? text.querySelector("text") : text;
    const [box, frame] = [made.getBoundingClientRect(), this.tip.parentElement.getBoundingClientRect()];
    const room = frame.width - this.tip.offsetWidth - 4;
    this.tip.style.left = `${Math.max(0, Math.min(box.left - frame.left, room))}px`;
    this.tip.style.top = `${Math.min(box.bottom - frame.top + 6, frame.height)}px`;
  }

  // - searching -

  seek() {
    const text = this.search.value;
    this.matches = matching(this.nodes, text).filter((node) => this.elements.has(node));
    const keys = new Set(this.matches.map((node) => node.key));
    this.mark("is-match", (key) => keys.has(key));
    this.stage.classList.toggle("has-matches", Boolean(text.trim()));
    this.found.textContent = text.trim() ? `${this.matches.length} found` : "";
    this.at = -1;
    if (this.matches.length) this.reveal(this.elements.get(this.matches[0]));
  }

  // Enter goes to the next of what was found, Shift+Enter back, Escape ends the search.
  seekKey(event) {
    if (event.key === "Escape") {
      this.search.value = "";
      this.seek();
    } else if (event.key === "Enter" && this.matches.length) {
      const count = this.matches.length;
      this.at = this.at < 0 ? 0 : (this.at + (event.shiftKey ? count - 1 : 1)) % count;
      const node = this.matches[this.at];
      this.set("selected", node.kind === "operation" ? node.key : "");
      this.reveal(this.elements.get(node));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function render({ model, el }) {
  const graph = new Graph(model, el);
  // A widget is rendered before it is put into the page; its size tells when it is there.
  const arrival = new ResizeObserver(() => {
    const panel = el.closest(".pulpo-panel");
    if (!panel) return;
    arrival.disconnect();
    dress(panel);
  });
  arrival.observe(el);
  return () => {
    arrival.disconnect();
    graph.close();
  };
}

export default { render };
