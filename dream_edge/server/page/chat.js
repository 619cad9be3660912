// The conversation: turns on the page, kept for as long as the tab lives.

import { Canvas } from "./canvas.js";
import { byId, element } from "./dom.js";
import { Rule } from "./rule.js";

const KEPT = "dream-edge conversation";

export class Chat {
  constructor(generation, others) {
    Object.assign(this, { generation, others });
    this.messages = [];
    this.turns = byId("turns");
    this.question = byId("question");
    this.rule = new Rule(byId("chat-must-be"), "The answer must be");
    byId("ask").addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    byId("clear").addEventListener("click", () => this.clear());
    this.question.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.send(); }
    });
    for (const { role, content } of JSON.parse(sessionStorage.getItem(KEPT) ?? "[]")) {
      this.messages.push({ role, content });
      this.turn(role, content);
    }
  }

  async send() {
    const content = this.question.value.trim();
    if (!content || this.generation.isRunning) return;
    const rule = this.rule.ask(this.generation.onTrouble);
    if (!rule) return;
    this.question.value = "";
    const asked = [...this.messages, { role: "user", content }];
    const mine = this.turn("user", content);
    const host = this.turn("assistant", "");
    const canvas = new Canvas(host, {
      others: this.others,
      marksCertain: Object.keys(rule).length > 0,
      alternatives: (before, after, signal) => this.generation.alternatives({ messages: asked, before, after }, signal),
    });
    host.scrollIntoView({ block: "nearest" });
    const room = Number(byId("room").value); // 0 where nothing stands there: as much as the server gives
    const body = { messages: asked, max_tokens: room || null, end_with: byId("ending").value, ...rule };
    const answer = await this.generation.run("v1/chat/completions", body, canvas);
    if (answer === null) { // the question may be asked again
      if (!mine.isConnected) return; // but not in a new conversation
      this.question.value ||= content;
      mine.classList.add("unanswered");
      return;
    }
    this.messages = [...asked, { role: "assistant", content: answer }];
    sessionStorage.setItem(KEPT, JSON.stringify(this.messages));
  }

  turn(role, content) {
    const item = element("li", role === "user" ? "asked" : "answered");
    item.setAttribute("aria-label", role === "user" ? "You" : "Dream");
    if (content) item.append(Object.assign(element("p", "canvas"), { textContent: content, dir: "auto" }));
    this.turns.append(item);
    return item;
  }

  clear() {
    this.generation.stop();
    this.messages = [];
    sessionStorage.removeItem(KEPT);
    this.turns.replaceChildren();
    this.question.focus();
  }
}
