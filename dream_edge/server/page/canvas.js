// A text while it is denoised, and afterwards: cells, a timeline to go back through, alternatives for a token.

const FRESH_FOR = 3; // steps that a new token stays coloured

export class Canvas {
  // `alternatives(before, token, after)` gives what else could stand there, or null to leave that out.
  constructor(host, { alternatives = null, others = null } = {}) {
    this.steps = [];
    this.alternatives = alternatives;
    this.others = others;
    this.isDone = false;
    this.text = element("p", "canvas");
    this.text.setAttribute("aria-hidden", "true");
    this.words = element("p", "for-readers");
    this.words.setAttribute("role", "status");
    this.timeline = element("div", "timeline");
    this.slider = element("input");
    Object.assign(this.slider, { type: "range", min: 0, max: 0, value: 0 });
    this.slider.setAttribute("aria-label", "Step of the denoising");
    this.label = element("output");
    this.timeline.append(this.slider, this.label);
    this.timeline.hidden = true;
    this.told = element("p", "told");
    host.append(this.text, this.words, this.timeline, this.told);
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
  }

  add(diffusion) {
    const isLatest = Number(this.slider.value) >= this.steps.length - 1;
    this.steps.push(diffusion);
    this.timeline.hidden = this.steps.length < 2;
    this.slider.max = this.steps.length - 1;
    if (isLatest) this.show(this.steps.length - 1);
    const quarter = Math.floor(diffusion.progress * 4);
    if (quarter !== this.quarter) {
      this.quarter = quarter;
      if (quarter < 4) this.words.textContent = `${quarter * 25} percent written`;
    }
  }

  finish(text, told) {
    this.isDone = true;
    this.words.textContent = text;
    this.told.textContent = told;
    this.show(this.steps.length - 1);
  }

  show(index) {
    if (index < 0) return;
    this.slider.value = index;
    this.label.textContent = `step ${this.steps[index].step} of ${this.steps.at(-1).step}`;
    const { cells } = this.steps[index];
    const isLast = this.isDone && index === this.steps.length - 1;
    const fresh = this.freshness(index);
    this.text.replaceChildren(...cells.map((cell, at) => {
      const span = element("span", "cell");
      span.textContent = cell.text;
      if (cell.masked) span.classList.add("masked");
      else if (cell.given) span.classList.add("given");
      else if (!isLast && fresh.has(at)) {
        span.classList.add("fresh");
        span.style.setProperty("--sure", fresh.get(at));
      }
      if (isLast && cell.text && !cell.masked && this.alternatives) this.explain(span, cells, at);
      return span;
    }));
  }

  // Cells that are new at step `index` or were a moment before, with their confidence. Canvases may grow and shrink
  // (then only the newest are known).
  freshness(index) {
    const found = new Map();
    const length = this.steps[index].cells.length;
    for (let step = Math.max(0, index - FRESH_FOR + 1); step <= index; step += 1) {
      if (this.steps[step].cells.length !== length) continue;
      this.steps[step].cells.forEach((cell, at) => {
        if (cell.confidence !== null) found.set(at, cell.confidence / (1 + index - step));
      });
    }
    return found;
  }

  explain(span, cells, at) {
    span.classList.add("token");
    span.tabIndex = 0;
    let timer;
    const look = () => {
      timer = setTimeout(async () => {
        const words = cells.map((cell) => cell.text);
        const found = await this.alternatives(words.slice(0, at).join(""), words.slice(at + 1).join(""));
        if (found && span.isConnected) this.others.show(span, cells[at].text, found);
      }, 350);
    };
    const leave = () => { clearTimeout(timer); this.others.hide(); };
    span.addEventListener("pointerenter", look);
    span.addEventListener("focus", look);
    span.addEventListener("pointerleave", leave);
    span.addEventListener("blur", leave);
  }
}

// The small window that names alternatives.
export class Others {
  constructor(host) {
    this.host = host;
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") this.hide(); });
  }

  show(span, chosen, found) {
    const table = element("table");
    for (const { text, probability } of found) {
      const row = table.insertRow();
      row.insertCell().textContent = visible(text);
      row.insertCell().textContent = `${(100 * probability).toFixed(1)} %`;
      if (text === chosen) row.classList.add("chosen");
    }
    this.host.replaceChildren(table);
    this.host.hidden = false;
    const place = span.getBoundingClientRect();
    const left = Math.min(place.left, innerWidth - this.host.offsetWidth - 8);
    this.host.style.left = `${Math.max(8, left) + scrollX}px`;
    this.host.style.top = `${place.bottom + 6 + scrollY}px`;
  }

  hide() { this.host.hidden = true; }
}

export function element(name, className = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

function visible(text) {
  return text === "" ? "(end of text)" : text.replaceAll("\n", "⏎").replaceAll(" ", "·");
}
