// Any text: a selection written anew in place, holes filled, pinned words kept.

import { ask } from "./api.js";
import { Canvas, element } from "./canvas.js";

const HOLE = /\[\[(\d+)\]\]/;

export class Edit {
  constructor(generation, others) {
    Object.assign(this, { generation, others });
    this.pinned = [];
    this.text = byId("text");
    this.last = null;
    byId("rewrite").addEventListener("click", () => this.rewrite());
    byId("hole").addEventListener("click", () => this.makeHole());
    byId("pin").addEventListener("click", () => this.pin());
    byId("fill").addEventListener("click", () => this.begin(pieces(this.text.value, [], [])));
    byId("again").addEventListener("click", () => this.last && this.begin(this.last));
    byId("edit-stop").addEventListener("click", () => this.generation.stop());
    byId("take").addEventListener("click", () => this.take());
  }

  // The selection, grown to whole words; null and a word to the user where nothing is selected.
  selection() {
    let { selectionStart: start, selectionEnd: end } = this.text;
    const text = this.text.value;
    if (start === end) {
      byId("edit-hint").textContent = "Select some words first.";
      return null;
    }
    while (start > 0 && /\w/.test(text[start - 1]) && /\w/.test(text[start])) start -= 1;
    while (end < text.length && /\w/.test(text[end]) && /\w/.test(text[end - 1])) end += 1;
    return [start, end];
  }

  rewrite() {
    const range = this.selection();
    if (range) this.begin(pieces(this.text.value, [range], this.pinned));
  }

  makeHole() {
    const range = this.selection() ?? [this.text.selectionStart, this.text.selectionStart];
    const words = this.text.value.slice(...range).split(/\s+/).filter(Boolean).length;
    const lead = /^\s/.test(this.text.value.slice(...range)) || this.text.value[range[0] - 1] !== " " ? 0 : 1;
    this.text.setRangeText(`[[${Math.max(1, words)}]]`, range[0] - lead, range[1], "end");
    this.text.focus();
  }

  pin() {
    const range = this.selection();
    const word = range && this.text.value.slice(...range).trim();
    if (!word || this.pinned.includes(word)) return;
    this.pinned.push(word);
    const button = Object.assign(element("button", "pin"), { type: "button", textContent: `📌 ${word} ×` });
    button.setAttribute("aria-label", `Unpin ${word}`);
    button.addEventListener("click", () => {
      this.pinned = this.pinned.filter((each) => each !== word);
      button.remove();
    });
    byId("pins").append(button);
  }

  async begin(parts) {
    if (this.generation.isRunning) return;
    if (!parts.some((part) => part.text === undefined)) {
      byId("edit-hint").textContent = "Nothing to write: select words, or put a hole such as [[3]].";
      return;
    }
    this.last = parts;
    byId("draft").hidden = false;
    const host = byId("edited");
    host.replaceChildren();
    const canvas = new Canvas(host, {
      others: this.others,
      alternatives: async (before, after) => {
        if (this.generation.isRunning) return null;
        try { return (await ask("v1/alternatives", { before, after })).alternatives; } catch { return null; }
      },
    });
    const surprise = Number(byId("surprise").value);
    const room = parts.reduce((sum, part) => sum + (part.hole ?? (part.rewrite ? part.rewrite.split(/\s+/).length : 0)), 0);
    const exactly = Number(this.generation.pace.value) === 3;
    const how = exactly || surprise === 0 ? {} : { temperature: surprise, top_p: 0.95 };
    this.result = await this.generation.run("v1/fill", { pieces: parts, ...how }, room, canvas);
  }

  take() {
    if (this.result == null) return;
    this.text.value = this.result;
    byId("draft").hidden = true;
    this.text.focus();
  }
}

// `text` as pieces of a request: `ranges` are rewritten but for the `pinned` words in them, holes are holes.
export function pieces(text, ranges, pinned) {
  const found = [];
  let at = 0;
  for (const [start, end] of ranges) {
    found.push(...holes(text.slice(at, start)));
    let from = text[start - 1] === " " ? start - 1 : start; // a word brings its own space
    const before = found.at(-1);
    if (from < start && before?.text) before.text = before.text.slice(0, -1);
    for (const [pinStart, pinEnd] of places(text, from, end, pinned)) {
      const lead = text[pinStart - 1] === " " && pinStart - 1 >= from ? 1 : 0;
      if (pinStart - lead > from) found.push({ rewrite: text.slice(from, pinStart - lead) });
      found.push({ text: text.slice(pinStart - lead, pinEnd) });
      from = pinEnd;
    }
    if (end > from) found.push({ rewrite: text.slice(from, end) });
    at = end;
  }
  found.push(...holes(text.slice(at)));
  return found.filter((piece) => piece.text !== "");
}

function holes(text) {
  return text.split(HOLE).map((part, index) => (index % 2 ? { hole: Number(part) } : { text: part }));
}

function places(text, start, end, words) {
  const found = [];
  for (const word of words) {
    for (let at = text.indexOf(word, start); at >= 0 && at + word.length <= end; at = text.indexOf(word, at + 1)) {
      if (!found.some(([first, last]) => at < last && first < at + word.length)) found.push([at, at + word.length]);
    }
  }
  return found.sort(([first], [second]) => first - second);
}

function byId(id) { return document.getElementById(id); }
