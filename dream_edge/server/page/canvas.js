// A text while it is denoised, and afterwards: cells, a timeline to go back through, alternatives for a token.

import { announce, element } from "./dom.js";

const FRESH_FOR = 3; // steps that a new token stays coloured
const GAP = 6; // px between a word and what else could stand there
const PATIENCE = 350; // ms that a pointer or the focus rests on a word before it is asked about

export class Canvas {
  // `alternatives(before, after, signal)` gives what else could stand between the two, or null; shown by `others`.
  // `marksCertain`: whether tokens without an alternative are marked.
  constructor(host, { alternatives, others, marksCertain = false }) {
    this.steps = [];
    this.alternatives = alternatives;
    this.others = others;
    this.marksCertain = marksCertain;
    this.isDone = false;
    this.looking = null;
    this.text = element("p", "canvas");
    this.text.dir = "auto";
    this.text.setAttribute("aria-hidden", "true"); // while it changes; announce() tells how far it is
    this.timeline = element("div", "timeline");
    this.slider = element("input");
    Object.assign(this.slider, { type: "range", min: 0, max: 0, value: 0 });
    this.slider.setAttribute("aria-label", "Step of the denoising");
    this.label = element("output");
    this.timeline.append(this.slider, this.label);
    this.timeline.hidden = true;
    this.told = element("p", "told");
    host.append(this.text, this.timeline, this.told);
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    for (const come of ["pointerover", "focusin"]) this.text.addEventListener(come, (event) => this.look(event.target));
    for (const go of ["pointerout", "focusout"]) this.text.addEventListener(go, () => this.leave());
    this.text.addEventListener("keydown", (event) => this.move(event));
  }

  add(diffusion) {
    const isLatest = Number(this.slider.value) >= this.steps.length - 1;
    this.steps.push(diffusion);
    this.timeline.hidden = this.steps.length < 2;
    this.slider.max = this.steps.length - 1;
    if (isLatest) this.show(this.steps.length - 1);
    const quarter = Math.floor(diffusion.progress * 4);
    if (quarter > (this.quarter ?? -1)) { // a canvas that grows falls back
      this.quarter = quarter;
      if (quarter < 4) announce(`${quarter * 25} percent written`);
    }
  }

  // `changes`: where `text` is not what was given, in code points; undefined where nothing could be.
  finish(text, changes, told) {
    this.isDone = true;
    announce(text || "An empty text.");
    this.told.textContent = text ? told : `An empty text: ${told}`;
    if (changes) this.told.textContent = `${changes.length || "Nothing"} changed: ${this.told.textContent}`;
    this.text.removeAttribute("aria-hidden");
    this.text.setAttribute("role", "group");
    this.text.setAttribute("aria-label", "Text; the arrow keys go through its words");
    const last = this.steps.at(-1);
    last.cells = upTo(text, last.cells); // what comes after its end does not belong to it
    this.before = changedCells(last.cells, changes ?? []);
    this.show(this.steps.length - 1);
  }

  show(index) {
    if (index < 0) return;
    this.slider.value = index;
    this.label.textContent = `step ${this.steps[index].step} of ${this.steps.at(-1).step}`;
    const { cells } = this.steps[index];
    const isLast = this.isDone && index === this.steps.length - 1;
    const fresh = this.freshness(index);
    const certain = this.marksCertain ? this.certain(index) : new Set();
    this.text.replaceChildren(...cells.map((cell, at) => {
      const span = element("span", "cell");
      span.textContent = cell.text;
      if (cell.masked) span.classList.add("masked");
      else if (cell.given) span.classList.add("given");
      else if (!isLast && fresh.has(at)) {
        span.classList.add("fresh");
        span.style.setProperty("--sure", fresh.get(at));
      }
      if (!cell.masked && certain.has(at)) span.classList.add("certain");
      if (isLast && this.before.has(at)) span.classList.add("changed");
      if (isLast && cell.text) {
        span.classList.add("token");
        span.tabIndex = at ? -1 : 0;
      }
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

  // Places whose tokens had no alternative, up to step `index`. Only for canvases that grow at their end, if at all.
  certain(index) {
    const found = new Set();
    for (const { cells } of this.steps.slice(0, index + 1)) {
      cells.forEach((cell, at) => { if (cell.confidence === 1) found.add(at); });
    }
    return found;
  }

  // After a moment, what else could stand where `span` does.
  look(span) {
    this.leave();
    if (!span.classList.contains("token")) return;
    const looking = new AbortController();
    this.looking = looking;
    setTimeout(async () => {
      if (looking.signal.aborted) return;
      const at = [...this.text.children].indexOf(span);
      const words = this.steps.at(-1).cells.map((cell) => cell.text);
      const found = await this.alternatives(words.slice(0, at).join(""), words.slice(at + 1).join(""), looking.signal);
      if (found && !looking.signal.aborted) this.others.show(span, words[at], found, this.before.get(at));
    }, PATIENCE);
  }

  leave() {
    this.looking?.abort();
    this.others.hide();
  }

  // Tab stops once at a text; inside, the arrow keys go from word to word.
  move(event) {
    const tokens = [...this.text.querySelectorAll(".token")];
    const at = tokens.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (to === undefined || !tokens[to]) return;
    event.preventDefault();
    tokens[at].tabIndex = -1;
    tokens[to].tabIndex = 0;
    tokens[to].focus();
  }
}

// The small window that names alternatives.
export class Others {
  constructor(host) {
    this.host = host;
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") this.hide(); });
  }

  // `before`: what stood there, if it is not what was given.
  show(span, chosen, found, before) {
    const table = element("table");
    for (const { text, probability } of found) {
      const row = table.insertRow();
      row.insertCell().textContent = visible(text);
      row.insertCell().textContent = percent(probability);
      if (text === chosen) row.classList.add("chosen");
    }
    const instead = before === undefined ? "" : `Instead of: ${before.trim() || "nothing"}`;
    if (instead) table.createCaption().textContent = instead;
    announce(`${instead && `${instead}. `}Here could stand: ${found.map((each) => `${each.text.trim()} ${percent(each.probability)}`).join(", ")}`);
    this.host.replaceChildren(table);
    this.host.hidden = false;
    const place = span.getBoundingClientRect();
    const left = Math.min(place.left, document.documentElement.clientWidth - this.host.offsetWidth - GAP);
    this.host.style.left = `${Math.max(GAP, left) + scrollX}px`;
    const below = place.bottom + GAP;
    const isRoom = below + this.host.offsetHeight <= innerHeight;
    this.host.style.top = `${(isRoom ? below : Math.max(0, place.top - GAP - this.host.offsetHeight)) + scrollY}px`;
  }

  hide() { this.host.hidden = true; }
}

function visible(text) {
  return text === "" ? "(end of text)" : text.replaceAll("\n", "⏎").replaceAll(" ", "·");
}

function percent(probability) {
  return probability < 0.0005 ? "< 0.1 %" : `${(100 * probability).toFixed(1)} %`;
}

// What stood in the place of each of `cells` that is part of a change.
function changedCells(cells, changes) {
  const found = new Map();
  let start = 0;
  cells.forEach((cell, at) => {
    const stop = start + [...cell.text].length;
    const change = changes.find((each) => start < each.stop && each.start < stop);
    if (change) found.set(at, change.before);
    start = stop;
  });
  return found;
}

// The cells that spell `text`; it alone where they do not.
function upTo(text, cells) {
  let spelt = "";
  const found = cells.filter((cell) => {
    const isOfIt = spelt.length < text.length;
    if (isOfIt) spelt += cell.text;
    return isOfIt;
  });
  return spelt === text ? found : [{ text, masked: false, given: false, confidence: null }];
}
