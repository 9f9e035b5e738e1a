// The picture in the panel: one button for each view, and a stage that scrolls.
// Traits: `view`, `views` ([[key, label], ...]), `drawings` ({key: {svg, text, alt}}).

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function viewButton(model, key, label) {
  const button = element("button", { type: "button", class: "pulpo-view" }, label);
  button.addEventListener("click", () => {
    model.set("view", key);
    model.save_changes();
  });
  return [key, button];
}

function show(model, buttons, stage) {
  const view = model.get("view");
  for (const [key, button] of buttons) button.setAttribute("aria-pressed", String(key === view));
  const drawing = model.get("drawings")[view] ?? { svg: "", text: "", alt: "" };
  const { scrollLeft, scrollTop } = stage;
  if (drawing.svg) stage.innerHTML = drawing.svg;
  else stage.replaceChildren(element("pre", {}, drawing.text));
  stage.setAttribute("aria-label", drawing.alt);
  stage.scrollTo(scrollLeft, scrollTop);
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
  for (const live of panel.querySelectorAll(".pulpo-live")) live.setAttribute("role", "status");
}

function render({ model, el }) {
  const buttons = model.get("views").map(([key, label]) => viewButton(model, key, label));
  const bar = element(
    "div",
    { class: "pulpo-bar", role: "group", "aria-label": "View" },
    ...buttons.map(([, button]) => button),
  );
  const stage = element("div", { class: "pulpo-stage", role: "region", tabindex: "0" });
  el.classList.add("pulpo-graph");
  el.append(bar, stage);

  const update = () => show(model, buttons, stage);
  model.on("change:view", update);
  model.on("change:drawings", update);
  update();

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
    model.off("change:view", update);
    model.off("change:drawings", update);
  };
}

export default { render };
