// The page: a device and limits in, the best network out, as fast as a slider moves. All texts come from the server.

import { drawChart } from "/chart.js";
import { drawNetwork, made, pairs } from "/drawing.js";
import { JobList } from "/jobs.js";

const STEPS = 1000;
const $ = (id) => document.getElementById(id);

class Refused extends Error {
  constructor(status, told) {
    super(told.message);
    this.status = status;
    this.told = told;
  }
}

class Api {
  constructor() {
    // behind `#`, which is not sent; kept for this tab alone
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      sessionStorage.setItem("hwnas-token", given);
      history.replaceState(null, "", location.pathname);
    }
  }

  async ask(path, options = {}) {
    const token = sessionStorage.getItem("hwnas-token");
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Refused(0, { type: "ConnectionError", message: "The server does not answer; is `hwnas serve` still running?" });
    }
    if (!response.ok) {
      const told = await response.json().catch(() => ({ error: { type: "Error", message: response.statusText } }));
      throw new Refused(response.status, told.error);
    }
    return response;
  }

  get = async (path) => (await this.ask(path)).json();
  delete = async (path) => (await this.ask(path, { method: "DELETE" })).json();
  post = async (path, body) =>
    (await this.ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();

  async *events(path) {
    const response = await this.ask(path);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      waiting += value;
      const events = waiting.split("\n\n");
      waiting = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) yield JSON.parse(data.slice(6));
      }
    }
  }

  async open(path) {
    const text = await (await this.ask(path)).blob();
    window.open(URL.createObjectURL(text), "_blank", "noopener");
  }
}

const api = new Api();
const jobs = new JobList(api, $("jobs"), $("jobs-section"));
const state = { run: null, device: null, limits: {}, front: null, options: [], chosen: 0, asking: false, again: false };

function problem(error) {
  $("problem").hidden = !error;
  $("problem").textContent = error ? error.message : "";
  if (error && error.status === 401) $("token-form").hidden = false;
}

// ---------------------------------------------------------------- limits

// sliders move in steps of equal factors: latencies of one device differ by ten times
const valueAt = (range, step) => range.min * (range.max / range.min) ** (step / STEPS);

function slider(range) {
  const output = made("output", { class: "none", for: `limit-${range.metric}` }, "any");
  const input = made("input", { type: "range", id: `limit-${range.metric}`, min: "0", max: String(STEPS), value: String(STEPS) });
  const label = made("label", { for: input.id }, range.name, " ", made("span", { class: "source" }, range.source));
  const ends = made("div", { class: "ends" }, made("span", {}, range.min_text), made("span", {}, `${range.max_text} or any`));
  input.addEventListener("input", () => {
    if (Number(input.value) >= STEPS) delete state.limits[range.metric];
    // the very smallest is reached, whatever is lost on the way to it
    else state.limits[range.metric] = Number(input.value) === 0 ? range.min : valueAt(range, Number(input.value));
    ask();
  });
  return made("div", { class: "slider" }, label, output, input, ends);
}

function showLimits(limits) {
  for (const range of state.device.metrics) {
    const output = document.querySelector(`output[for="limit-${range.metric}"]`);
    const limit = limits.find((l) => l.metric === range.metric);
    output.textContent = limit ? limit.text.replace(`${range.name} `, "") : "any";
    output.className = limit ? "" : "none";
  }
}

// ---------------------------------------------------------------- the answer

// one question at a time; what moved meanwhile is asked next
async function ask() {
  if (state.asking) {
    state.again = true;
    return;
  }
  state.asking = true;
  try {
    const found = await api.post("/api/query", { device: state.device.name, limits: state.limits, predicted: 1 });
    problem(null);
    showLimits(found.limits);
    state.options = [...found.answers.map((a) => ({ ...a, evaluated: true })), ...found.predicted];
    state.chosen = 0;
    showAnswer(found.infeasible);
  } catch (error) {
    if (error.status === 409) {
      problem(null);
      showLimits(Object.entries(state.limits).map(([metric, value]) => limitOf(metric, value, error.told.limits)));
      state.options = [];
      showAnswer(error.told);
    } else problem(error);
  }
  state.asking = false;
  if (state.again) {
    state.again = false;
    ask();
  }
}

const limitOf = (metric, value, told = []) => told.find((l) => l.metric === metric) || { metric, value, text: value.toPrecision(3) };

function showAnswer(infeasible) {
  const options = $("options");
  options.hidden = state.options.length < 2;
  options.replaceChildren(
    ...state.options.map((option, i) => {
      const input = made("input", { type: "radio", name: "network", value: String(i) });
      input.checked = i === state.chosen;
      input.addEventListener("change", () => {
        state.chosen = i;
        showChosen(null);
      });
      const costs = ["latency_ms", "size_bytes"].filter((m) => option.texts[m]).map((m) => option.texts[m].value);
      return made("label", {}, input, made("span", {}, `${option.label}: ${costs.join(", ")}`));
    }),
  );
  showChosen(infeasible);
}

function showChosen(infeasible) {
  const option = state.options[state.chosen];
  $("deploy").disabled = !option;
  const verdict = $("verdict");
  if (!option) {
    verdict.replaceChildren(made("strong", { class: "bad" }, "✗ No network keeps these limits."));
    $("why").textContent = infeasible ? infeasible.message : "";
    $("values").replaceChildren();
  } else {
    const { latency_ms: latency, size_bytes: size, [state.device.ranked_by.metric]: gained } = option.texts;
    const tag = option.evaluated ? [] : [" ", made("span", { class: "tag" }, "predicted, not evaluated")];
    verdict.replaceChildren(made("b", {}, gained.value), ` ${gained.name}`, ...tag, ", ", made("b", {}, latency.value), size ? ", " : "", made("b", {}, size ? size.value : ""));
    $("why").textContent = [infeasible && state.chosen === 0 ? `Of the evaluated networks: ${infeasible.message}.` : "", option.why, option.note || ""].filter(Boolean).join(" ");
    const rows = Object.entries(option.texts).map(([metric, t]) => [t.name, valueParts(metric, t, option)]);
    pairs($("values"), rows);
  }
  $("deploy-note").textContent = option && !option.evaluated ? "It is evaluated first." : "";
  draw();
  if (option) showNetwork(option);
  else $("network").replaceChildren();
}

function valueParts(metric, texts, option) {
  if (metric === state.device.ranked_by.metric) return [texts.value, " ", made("span", { class: "source" }, option.interval_text ? `95 % interval ${option.interval_text}; ${texts.source}` : option.label.split(", ").slice(1).join(", "))];
  return [texts.value, " ", made("span", { class: "source" }, [texts.upper && `at most ${texts.upper}`, texts.source].filter(Boolean).join(", "))];
}

async function showNetwork(option) {
  try {
    const network = await api.post("/api/network", { device: state.device.name, architecture: option.architecture });
    if (option !== state.options[state.chosen]) return;
    const activation = network.activation ? ` Activation: ${network.activation}.` : "";
    $("network-note").replaceChildren(
      `${network.blocks} blocks from the ${network.input.join(" × ")} input down to the classes, one row for each resolution. An outline is as tall as the block has channels (their root); an arc marks a residual connection.${activation} `,
      made("span", { class: "keys" }, ...[["int8", "int8"], ["fp32", "fp32"], ["conversion", "change of precision"]].map(([c, text]) => made("span", { class: `key ${c}` }, text))),
    );
    drawNetwork($("network"), network);
    const choices = Object.entries(network.choices);
    $("choices-title").textContent = `All ${choices.length} choices`;
    pairs($("choices"), choices);
  } catch (error) {
    problem(error);
  }
}

// ---------------------------------------------------------------- the front

function draw() {
  if (!state.front) return;
  const cost = state.front.cost, option = state.options[state.chosen];
  const chosen = option && { cost: option.values[cost], accuracy: option.values[state.front.metric], interval: option.interval };
  drawChart($("chart"), state.front, { limit: state.limits[cost] ?? null, chosen });
  const keys = [["trial", `${state.device.evaluated} evaluated`], ["int8", "their front"]];
  if (state.front.predicted.length) keys.push(["fp32", "predicted front with 95 % intervals"]);
  if (option) keys.push(["chosen", "this network"]);
  if (cost in state.limits) keys.push(["bound", "beyond the limit"]);
  $("caption").replaceChildren(made("span", { class: "keys" }, ...keys.map(([c, text]) => made("span", { class: `key ${c}` }, text))));
}

async function loadFront() {
  const query = new URLSearchParams({ device: state.device.name, cost: $("cost").value });
  try {
    state.front = await api.get(`/api/front?${query}`);
    draw();
  } catch (error) {
    problem(error);
  }
}

// ---------------------------------------------------------------- devices, and the beginning

function choose(name) {
  const device = state.run.devices.find((d) => d.name === name);
  state.device = device;
  state.limits = {};
  const searched = device.searched_for.join(" and ");
  const gone = device.left_out ? `; ${device.left_out} others cannot be had here` : "";
  const predicted = device.predicted ? `, ${device.predicted.toLocaleString("en")} predicted` : "";
  $("device-note").textContent = `Runtime ${device.runtime}. ${device.evaluated.toLocaleString("en")} evaluated networks${predicted}; searched for ${searched}${gone}.`;
  $("sliders").replaceChildren($("sliders").querySelector("legend"), ...device.metrics.filter((m) => m.max > m.min && m.min > 0).slice(0, 4).map(slider));
  const before = $("cost").value;
  $("cost").replaceChildren(...device.metrics.map((m) => made("option", { value: m.metric }, m.name)));
  if (device.metrics.some((m) => m.metric === before)) $("cost").value = before;
  state.front = null;
  loadFront();
  ask();
}

async function begin() {
  $("token-form").hidden = true;
  try {
    state.run = await api.get("/api/run");
  } catch (error) {
    problem(error);
    return;
  }
  problem(null);
  $("run").textContent = `${state.run.space}, ${state.run.run}`;
  document.title = `${state.run.space}: budgets`;
  $("footer").textContent = `hwnas ${state.run.version}`;
  $("device").replaceChildren(...state.run.devices.map((d) => made("option", { value: d.name }, d.name)));
  $("main").hidden = false;
  choose(state.run.devices[0].name);
  jobs.load().catch(problem);
}

$("device").addEventListener("change", () => choose($("device").value));
$("cost").addEventListener("change", loadFront);
$("deploy").addEventListener("click", async () => {
  const option = state.options[state.chosen];
  try {
    jobs.follow(await api.post("/api/jobs", { device: state.device.name, architecture: option.architecture, limits: state.limits }));
    problem(null);
  } catch (error) {
    problem(error);
  }
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("hwnas-token", $("token").value.trim());
  begin();
});

begin();
