// Accuracy, or what else networks were evaluated for, against one cost: what was evaluated, the fronts, the limit and the chosen network. Knows numbers only.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 460, HEIGHT = 300, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 40;

function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// values for some ticks between two numbers: 1, 2 or 5 times a power of ten apart
export function ticks(low, high) {
  const rough = (high - low) / 6 || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function tickText(value, step) {
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
  return value.toFixed(digits).replace("-", "−");
}

// the steps of a front: a network is the best until a better one is affordable, and the last one for good
function steps(points, x, y) {
  const corners = points.map(([cost, accuracy], i) => (i ? `H${x(cost)}V${y(accuracy)}` : `M${x(cost)},${y(accuracy)}`));
  return `${corners.join("")}H${WIDTH}`;
}

function band(points, x, y) {
  const edge = (sign) => points.map(([c, a, e]) => `${x(c)},${y(Math.min(1, Math.max(0, a + sign * 1.96 * e)))}`);
  return [...edge(1), ...edge(-1).reverse()].join(" ");
}

// svg: emptied and drawn anew; document: of /api/front; limit: on the cost, or null; chosen: {cost, accuracy, interval}
export function drawChart(svg, document_, { limit, chosen }) {
  const front = document_.front.map((p) => [p.cost, p[document_.metric]]);
  const shown = [...front, ...document_.predicted, ...(chosen ? [[chosen.cost, chosen.accuracy]] : [])];
  const worst = Math.min(...shown.map((p) => p[1])), best = Math.max(...shown.map((p) => p[1]));
  const room = Math.max(0.005, 0.12 * (best - worst));
  const low = Math.max(0, worst - room), high = Math.min(1, best + room);
  const all = [...document_.evaluated.filter((p) => p[1] >= low), ...shown];
  const from = Math.min(...all.map((p) => p[0])), to = Math.max(...all.map((p) => p[0]));
  const pad = 0.04 * (to - from || to || 1);
  const left = from - pad, right = to + pad;
  const x = (c) => (LEFT + ((c - left) / (right - left)) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const y = (a) => (HEIGHT - BOTTOM - ((a - low) / (high - low)) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  const { factor, label } = document_.axis;
  const parts = [], plot = []; // what belongs to the axes, and what is cut off at them
  const costs = ticks(left * factor, right * factor), shares = ticks(100 * low, 100 * high);
  for (const t of costs) {
    parts.push(element("line", { class: "grid", x1: x(t / factor), x2: x(t / factor), y1: TOP, y2: HEIGHT - BOTTOM }));
    parts.push(element("text", { x: x(t / factor), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, tickText(t, costs[1] - costs[0] || 1)));
  }
  for (const t of shares) {
    parts.push(element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(t / 100), y2: y(t / 100) }));
    parts.push(element("text", { x: LEFT - 6, y: Number(y(t / 100)) + 4, "text-anchor": "end" }, tickText(t, shares[1] - shares[0] || 1)));
  }
  parts.push(element("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, label));
  parts.push(element("text", { x: 12, y: (TOP + HEIGHT - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(TOP + HEIGHT - BOTTOM) / 2})` }, `${document_.metric_name} (%)`));
  const dots = (points, r) => points.filter((p) => p[1] >= low && p[1] <= high).map(([c, a]) => element("circle", { cx: x(c), cy: y(a), r }));
  plot.push(element("g", { class: "evaluated" }, ...dots(document_.evaluated, 2)));
  if (document_.predicted.length) {
    plot.push(element("polygon", { class: "band", points: band(document_.predicted, x, y) }));
    plot.push(element("path", { class: "predicted", d: steps(document_.predicted, x, y) }));
  }
  plot.push(element("path", { class: "front", d: steps(front, x, y) }));
  plot.push(element("g", { class: "front-dots" }, ...dots(front, 3)));
  if (limit !== null && limit < right) {
    const at = Math.max(left, limit);
    plot.push(element("rect", { class: "beyond", x: x(at), y: TOP, width: WIDTH - RIGHT - x(at), height: HEIGHT - BOTTOM - TOP }));
    plot.push(element("line", { class: "limit", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }));
  }
  parts.push(element("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
  parts.push(element("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: HEIGHT - BOTTOM }));
  if (chosen) {
    if (chosen.interval) {
      const [bottom, top] = chosen.interval.map((a) => y(Math.min(high, Math.max(low, a))));
      plot.push(element("line", { class: "interval", x1: x(chosen.cost), x2: x(chosen.cost), y1: bottom, y2: top }));
    }
    plot.push(element("circle", { class: "chosen", cx: x(chosen.cost), cy: y(chosen.accuracy), r: 6.5 }));
  }
  const area = element("rect", { x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: HEIGHT - BOTTOM - TOP });
  const clip = element("defs", {}, element("clipPath", { id: "plot-area" }, area));
  svg.replaceChildren(clip, element("g", { "clip-path": "url(#plot-area)" }, ...plot), ...parts);
}
