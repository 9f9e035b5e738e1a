// Code in the panel, with a button that copies it.
// Traits: `html` (highlighted by the kernel) and `text` (what is copied).

// Where pages may not write to the clipboard, as over plain http, the old way still works.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "pulpo-unseen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function render({ model, el }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "pulpo-button";
  button.textContent = "Copy";
  const said = document.createElement("span");
  said.className = "pulpo-found";
  said.setAttribute("role", "status");
  const bar = document.createElement("div");
  bar.className = "pulpo-bar";
  bar.append(button, said);
  const body = document.createElement("div");
  body.className = "pulpo-source";
  el.append(bar, body);

  const update = () => {
    body.innerHTML = model.get("html");
    body.querySelector("pre")?.setAttribute("tabindex", "0"); // it scrolls
    bar.hidden = !model.get("text");
    said.textContent = "";
  };
  button.addEventListener("click", async () => {
    said.textContent = (await copy(model.get("text"))) ? "Copied." : "Not copied: select it by hand.";
  });
  model.on("change:html", update);
  model.on("change:text", update);
  update();
  return () => {
    model.off("change:html", update);
    model.off("change:text", update);
  };
}

export default { render };
