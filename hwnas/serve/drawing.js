// The network, block by block, as in the report: one row for each resolution. Knows what /api/network tells.

function made(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function picture(attributes, ...children) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  for (const [name, values] of children) {
    const child = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) child.setAttribute(key, value);
    svg.append(child);
  }
  return svg;
}

function block(b) {
  const item = made("li", { class: `block ${b.role}${b.boundary ? " boundary" : ""}`, title: b.slot });
  item.append(picture({ viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, ["polygon", { points: b.outline }]));
  if (b.residual) {
    item.append(
      picture(
        { class: "arc", viewBox: "0 0 100 20", preserveAspectRatio: "none", role: "img", "aria-label": "residual" },
        ["path", { d: "M4 19C20 2 80 2 96 19" }],
      ),
    );
  }
  item.append(made("b", {}, b.title), made("span", {}, b.channels));
  item.append(made("span", { class: "precision" }, [b.precision, ...b.notes].join(", ")));
  return item;
}

export function drawNetwork(list, network) {
  list.replaceChildren(
    ...network.levels.map((level) =>
      made("li", {}, made("span", { class: "side" }, level.label), made("ol", { class: "row" }, ...level.blocks.map(block))),
    ),
  );
}

export function pairs(list, items) {
  list.replaceChildren(...items.map(([name, text]) => made("div", {}, made("dt", {}, name), made("dd", {}, ...[text].flat()))));
}

export { made };
