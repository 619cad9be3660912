// The page, put together; and what it says of the server.

import { health, modelName } from "./api.js";
import { Others } from "./canvas.js";
import { Chat } from "./chat.js";
import { byId } from "./dom.js";
import { Edit } from "./edit.js";
import { Generation } from "./generation.js";

const RETRY = 2000; // ms

const runs = ["send", "rewrite", "check", "fill", "again", "take"];

const generation = new Generation({
  pace: byId("pace"),
  paceSays: byId("pace-says"),
  speed: byId("speed"),
  onChange: (isRunning) => {
    if (isRunning) say(""); // of the last time
    for (const id of runs) byId(id).disabled = isRunning;
    for (const id of ["stop", "edit-stop"]) byId(id).disabled = !isRunning;
  },
  onTrouble: (error) => {
    say(error.message);
    if (error.isGone) connect();
  },
});
const others = new Others(byId("others"));
new Chat(generation, others);
new Edit(generation, others);

byId("stop").addEventListener("click", () => generation.stop());
for (const name of ["chat", "edit"]) {
  byId(`show-${name}`).addEventListener("click", () => show(name));
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") generation.stop(); });
show("chat");
connect();

function show(name) {
  document.querySelector("main").dataset.shown = name;
  for (const each of ["chat", "edit"]) byId(`show-${each}`).setAttribute("aria-pressed", String(each === name));
}

function say(message) {
  byId("trouble").textContent = message;
  byId("trouble").hidden = !message;
}

// Ask until the model is there; again when the server was lost.
async function connect() {
  for (;;) {
    let found;
    try {
      const { status } = await health();
      if (status === "ready" || status === "busy") {
        byId("state").textContent = await modelName();
        say("");
        return;
      }
      found = status === "loading" ? "Loading the model …" : `The server says: ${status}`;
      say("");
    } catch (error) {
      found = "Not connected";
      say(`${error.message} Trying again …`);
    }
    byId("state").textContent = found;
    await new Promise((resolve) => { setTimeout(resolve, RETRY); });
  }
}
