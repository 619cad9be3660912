// Any text: a selection rewritten in place or checked, holes filled, pinned words kept.

import { Canvas } from "./canvas.js";
import { byId, element } from "./dom.js";
import { Rule } from "./rule.js";

const HOLE = /\[\[(\d+)\]\]/g;
const WORDS = new Intl.Segmenter(undefined, { granularity: "word" });
const ROOM = 3; // tokens of a hole that replaces nothing

export class Edit {
  constructor(generation, others) {
    Object.assign(this, { generation, others });
    this.pinned = [];
    this.text = byId("text");
    this.last = null;
    this.rule = new Rule(byId("edit-must-be"), "What is written must be", "edit-");
    byId("rewrite").addEventListener("click", () => this.rewrite());
    byId("check").addEventListener("click", () => this.check());
    byId("hole").addEventListener("click", () => this.makeHole());
    byId("pin").addEventListener("click", () => this.pin());
    byId("fill").addEventListener("click", () => this.begin(pieces(this.text.value, [], [])));
    byId("again").addEventListener("click", () => this.last && this.begin(this.last));
    byId("edit-stop").addEventListener("click", () => this.generation.stop());
    byId("take").addEventListener("click", () => this.take());
  }

  // The selection, grown to whole words; null where nothing is selected.
  selection() {
    const { selectionStart: start, selectionEnd: end, value } = this.text;
    return start === end ? null : grown(value, start, end);
  }

  rewrite() {
    const range = this.selection();
    this.begin(range ? pieces(this.text.value, [range], this.pinned, { bringsSpace: !this.rule.kind.value }) : []);
  }

  // Nothing selected: all of the text.
  check() {
    const range = this.selection() ?? [0, this.text.value.length];
    this.begin(pieces(this.text.value, [range], this.pinned, { kind: "draft" }));
  }

  makeHole() {
    const [start, end] = this.selection() ?? [this.text.selectionStart, this.text.selectionStart];
    const words = this.text.value.slice(start, end).split(/\s+/).filter(Boolean).length;
    const bringsSpace = this.text.value[start - 1] === " " && !this.rule.kind.value; // a word does, what a rule says not
    const from = bringsSpace ? start - 1 : start;
    type(this.text, from, end, `[[${words || ROOM}]]`);
  }

  pin() {
    const range = this.selection();
    const word = range && this.text.value.slice(...range).trim();
    this.say(word ? "" : "Select the words that shall stay.");
    if (!word || this.pinned.includes(word)) return;
    this.pinned.push(word);
    const button = Object.assign(element("button", "pin"), { type: "button", textContent: `${word} ×` });
    button.setAttribute("aria-label", `Unpin ${word}`);
    button.addEventListener("click", () => {
      this.pinned = this.pinned.filter((each) => each !== word);
      button.remove();
      byId("pin").focus();
    });
    byId("pins").append(button);
  }

  say(text) { byId("edit-says").textContent = text; }

  async begin(parts) {
    if (this.generation.isRunning) return;
    const isSomething = parts.some((part) => part.text === undefined);
    this.say(isSomething ? "" : "Nothing to write yet: select words, or put a hole such as [[3]].");
    const isHeld = parts.some((part) => part.rewrite ?? part.hole); // a draft need not be what the rule says
    const rule = isHeld ? this.rule.ask(this.generation.onTrouble) : {};
    if (!isSomething || !rule) return;
    this.last = parts;
    byId("draft").hidden = false;
    const host = byId("edited");
    host.replaceChildren();
    const canvas = new Canvas(host, {
      others: this.others,
      marksCertain: Object.keys(rule).length > 0,
      alternatives: (before, after, signal) => this.generation.alternatives({ before, after }, signal),
    });
    const surprise = Number(byId("surprise").value);
    const exactly = Number(this.generation.pace.value) === 3;
    const how = exactly || surprise === 0 ? {} : { temperature: surprise, top_p: 0.95 };
    this.result = await this.generation.run("v1/fill", { pieces: parts, ...how, ...rule }, canvas);
    byId("take").disabled = this.result === null;
  }

  take() {
    byId("draft").hidden = true;
    type(this.text, 0, this.text.value.length, this.result);
  }
}

// `text` as pieces of a request: `ranges` are rewritten, or of another `kind`, but for the `pinned` words in them; holes
// are holes. `bringsSpace`: whether what is written begins with the space before it.
export function pieces(text, ranges, pinned, { kind = "rewrite", bringsSpace = true } = {}) {
  const found = [];
  let at = 0;
  for (const [start, end] of ranges) {
    found.push(...holes(text.slice(at, start)));
    let from = bringsSpace && text[start - 1] === " " ? start - 1 : start;
    const before = found.at(-1);
    if (from < start && before?.text) before.text = before.text.slice(0, -1);
    for (const [pinStart, pinEnd] of places(text, from, end, pinned)) {
      const lead = text[pinStart - 1] === " " && pinStart - 1 >= from ? 1 : 0;
      if (pinStart - lead > from) found.push(...holes(text.slice(from, pinStart - lead), kind));
      found.push({ text: text.slice(pinStart - lead, pinEnd) });
      from = pinEnd;
    }
    if (end > from) found.push(...holes(text.slice(from, end), kind));
    at = end;
  }
  found.push(...holes(text.slice(at)));
  return found.filter((piece) => piece.text !== "" && piece[kind] !== "");
}

// `text` cut at its holes; what is between them is `kind`: "text", "rewrite" or "draft".
function holes(text, kind = "text") {
  return text.split(HOLE).map((part, index) => (index % 2 ? { hole: Number(part) } : { [kind]: part }));
}

// A range of `text`, grown so that it cuts no word, no character and no hole.
export function grown(text, start, end) {
  const whole = [...WORDS.segment(text), ...[...text.matchAll(HOLE)].map(({ index, 0: segment }) => ({ index, segment }))];
  for (const { index, segment } of whole) {
    const stop = index + segment.length;
    if (index < start && start < stop) start = index;
    if (index < end && end < stop) end = stop;
  }
  return [start, end];
}

// Puts `text` in the place of a range as typing would, so that Ctrl+Z takes it back.
function type(area, start, end, text) {
  area.focus();
  area.setSelectionRange(start, end);
  if (!document.execCommand(text ? "insertText" : "delete", false, text)) area.setRangeText(text, start, end, "end");
}

function places(text, start, end, words) {
  const found = [];
  for (const word of words) {
    for (let at = text.indexOf(word, start); at >= 0 && at + word.length <= end; at = text.indexOf(word, at + 1)) {
      const stop = at + word.length;
      const [first, last] = grown(text, at, stop);
      if (first < at || stop < last) continue; // inside another word
      if (!found.some(([start_, stop_]) => at < stop_ && start_ < stop)) found.push([at, stop]);
    }
  }
  return found.sort(([first], [second]) => first - second);
}
