// What a text must be: a choice, a number, or JSON by a form or a schema.

import { Trouble } from "./api.js";
import { byId, element } from "./dom.js";

const NUMBER = "-?(0|[1-9][0-9]*)(\\.[0-9]+)?";
const TYPES = { text: { type: "string" }, number: { type: "number" }, "yes or no": { type: "boolean" }, "one of": null };

export class Rule {
  // Its parts stand in `host`, their ids after `prefix`; `label` says what must be something.
  constructor(host, label, prefix = "") {
    this.part = (name) => byId(prefix + name);
    const parts = byId("rule-parts").content.cloneNode(true);
    parts.querySelector("label span").textContent = label;
    for (const name of ["id", "for", "aria-describedby"]) {
      for (const each of parts.querySelectorAll(`[${name}]`)) each.setAttribute(name, prefix + each.getAttribute(name));
    }
    host.append(parts);
    this.kind = this.part("rule");
    this.fields = this.part("fields");
    this.kind.addEventListener("change", () => this.show());
    this.part("add-field").addEventListener("click", () => this.addField().focus());
    this.addField();
    this.show();
  }

  // As `read`, or null where something is missing, after telling it to `onTrouble`.
  ask(onTrouble) {
    try {
      return this.read();
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      onTrouble(error);
      return null;
    }
  }

  // As fields of a request; none where anything will do. Trouble where something is missing.
  read() {
    if (this.kind.value === "choices") return { choices: required(split(this.part("choices").value, "\n"), "Name a choice, one a line.") };
    if (this.kind.value === "number") return { regex: NUMBER };
    if (this.kind.value === "json") return { json_schema: this.schema() };
    return {};
  }

  schema() {
    const pasted = this.part("schema").value.trim();
    if (pasted) return parse(pasted);
    const properties = [...this.fields.children].map(({ children: [name, type, options] }) => {
      const values = () => required(split(options.value, ","), `Name what ${name.value.trim()} is one of.`);
      return [name.value.trim(), TYPES[type.value] ?? { enum: values() }];
    }).filter(([name]) => name);
    const names = required(properties.map(([name]) => name), "Name a field of the JSON, or paste a schema.");
    const twice = names.find((name, at) => names.indexOf(name) < at);
    if (twice) throw new Trouble(`Two fields are called ${twice}: rename one.`);
    return { type: "object", properties: Object.fromEntries(properties), required: names, additionalProperties: false };
  }

  show() {
    for (const kind of ["choices", "json"]) this.part(`rule-${kind}`).hidden = this.kind.value !== kind;
    this.part("rule-hint").hidden = !this.kind.value;
  }

  // Gives the place of its name.
  addField() {
    const row = element("div", "row");
    row.setAttribute("role", "group");
    const name = Object.assign(element("input"), { type: "text", placeholder: "name", dir: "auto" });
    const type = element("select");
    for (const each of Object.keys(TYPES)) type.add(new Option(each));
    const options = Object.assign(element("input"), { type: "text", placeholder: "red, green, blue", dir: "auto", hidden: true });
    const remove = Object.assign(element("button"), { type: "button", textContent: "×" });
    type.addEventListener("change", () => { options.hidden = TYPES[type.value] !== null; });
    remove.addEventListener("click", () => { row.remove(); this.label(); this.part("add-field").focus(); });
    row.append(name, type, options, remove);
    this.fields.append(row);
    this.label();
    return name;
  }

  label() {
    const says = ["Name", "Type", "What it is one of, with commas between", "Remove"];
    [...this.fields.children].forEach((row, at) => {
      row.setAttribute("aria-label", `Field ${at + 1}`);
      [...row.children].forEach((each, part) => each.setAttribute("aria-label", `Field ${at + 1}: ${says[part]}`));
    });
  }
}

function split(text, separator) {
  return [...new Set(text.split(separator).map((each) => each.trim()).filter(Boolean))];
}

function required(values, message) {
  if (!values.length) throw new Trouble(message);
  return values;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Trouble(`The schema is no JSON: ${error.message}`);
  }
}
