// Deployments that were asked for: each with what it does now, and a way to end it. Knows what /api/jobs tells.

import { made } from "/drawing.js";

const STATES = { queued: "waits for the one before", running: "runs", done: "done", failed: "failed", cancelled: "cancelled" };

export class JobList {
  // api: asks the server; list, section: where jobs are shown
  constructor(api, list, section) {
    this.api = api;
    this.list = list;
    this.section = section;
    this.items = new Map();
  }

  async load() {
    const { jobs } = await this.api.get("/api/jobs");
    for (const job of jobs.reverse()) this.follow(job);
  }

  follow(job) {
    this.show(job);
    if (["queued", "running"].includes(job.state)) this.listen(job.id);
  }

  // the stream is read by hand: an EventSource cannot bear a token
  async listen(id) {
    for (let tries = 0; tries < 5; tries += 1) {
      try {
        for await (const job of this.api.events(`/api/jobs/${id}/events`)) {
          tries = 0;
          this.show(job);
          if (!["queued", "running"].includes(job.state)) return;
        }
      } catch (error) {
        console.warn(error);
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    const item = this.items.get(id);
    if (item) item.append(made("p", { class: "bad" }, "The server does not answer any more."));
  }

  show(job) {
    this.section.hidden = false;
    let item = this.items.get(job.id);
    if (!item) {
      item = made("li", { id: `job-${job.id}` });
      this.items.set(job.id, item);
      this.list.prepend(item);
    }
    const log = item.querySelector(".said");
    const atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    item.dataset.state = job.state;
    item.replaceChildren(...this.parts(job));
    const now = item.querySelector(".said");
    if (now && atEnd) now.scrollTop = now.scrollHeight;
  }

  *parts(job) {
    const good = job.state === "done" ? "good" : job.state === "failed" ? "bad" : "";
    const head = made("div", { class: "head" }, made("span", {}, job.title), made("span", { class: `state ${good}` }, STATES[job.state]));
    if (job.seconds !== null) head.append(made("span", { class: "source" }, `${Math.round(job.seconds)} s`));
    if (["queued", "running"].includes(job.state)) {
      const cancel = made("button", { type: "button" }, "Cancel");
      cancel.addEventListener("click", async () => {
        cancel.disabled = true;
        // what follows is told by its events, which may be here before this answer
        await this.api.delete(`/api/jobs/${job.id}`);
      });
      head.append(cancel);
    }
    yield head;
    if (job.state === "running") {
      const { label, done, total } = job.progress;
      const bar = made("progress", { max: "1", "aria-label": label || "working" });
      if (total) bar.value = done / total;
      yield made("p", {}, bar, made("span", { class: "source" }, total ? `${label}: ${done} of ${total}` : job.said.at(-1) || "starting"));
    }
    if (job.error) yield made("p", { class: "error bad" }, `✗ ${job.error}`);
    if (job.result) {
      const facts = job.result.rows.filter(([name]) => !name.startsWith("  ")).map(([name, value]) => `${name}: ${value}`);
      const report = made("button", { type: "button" }, "Open its report");
      report.addEventListener("click", () => this.api.open(`/api/jobs/${job.id}/report`));
      yield made("p", {}, made("code", {}, job.result.deployment));
      yield made("p", { class: "note" }, facts.join(" · "));
      yield made("p", { class: "actions" }, report);
    }
    if (job.said.length) {
      const details = made("details", job.state === "failed" ? { open: "" } : {}, made("summary", {}, "What it said"));
      details.open = job.state === "failed" || this.items.get(job.id)?.querySelector("details")?.open === true;
      details.append(made("div", { class: "said", tabindex: "0" }, job.said.join("\n")));
      yield details;
    }
  }
}
