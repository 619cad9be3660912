// One generation at a time: begun, shown, stopped, timed.

import { ask, stream, Trouble } from "./api.js";

const PACES = [
  { preset: "turbo", says: "turbo: what is 90 % sure" },
  { preset: "fast", says: "fast: the default" },
  { preset: "careful", says: "careful: with the whole text in sight" },
  { preset: "exact", says: "exact: the official loop" },
];

export class Generation {
  // `onChange(isRunning)` is called at the beginning and at the end, `onTrouble(error)` where something goes wrong.
  constructor({ pace, paceSays, speed, onChange, onTrouble }) {
    Object.assign(this, { pace, speed, onChange, onTrouble });
    this.abort = null;
    const say = () => { paceSays.textContent = PACES[pace.value].says; };
    pace.addEventListener("input", say);
    say();
  }

  get isRunning() { return this.abort !== null; }

  stop() { this.abort?.abort(); }

  // What else could stand in a place, or null: a hint that does not come is no trouble.
  async alternatives(place, signal) {
    if (this.isRunning) return null;
    try {
      return (await ask("v1/alternatives", place, signal)).alternatives;
    } catch {
      return null;
    }
  }

  // Fills `canvas`; gives the finished text, or null if it was stopped or failed.
  async run(path, body, canvas) {
    if (this.isRunning) return null;
    this.abort = new AbortController();
    this.onChange(true);
    try {
      const asked = {
        preset: PACES[this.pace.value].preset, ...body, diffusing: true,
        stream_options: { include_cells: true, include_usage: true },
      };
      let text = null;
      for await (const { choices, diffusion, usage } of stream(path, asked, this.abort.signal)) {
        const choice = choices[0];
        const kept = usage?.prompt_tokens_details.cached_tokens;
        if (kept) canvas.told.textContent += `, ${kept} of ${usage.prompt_tokens} tokens from before`;
        if (diffusion?.cells) canvas.add(diffusion);
        if (choice?.finish_reason) {
          text = choice.text ?? choice.delta.content ?? "";
          const speed = `${diffusion.tokens_per_second.toFixed(1)} tokens/s`;
          this.speed.textContent = speed;
          const passes = diffusion.passes === 1 ? "1 pass" : `${diffusion.passes} passes`;
          canvas.finish(text, choice.changes, `${passes}, ${diffusion.seconds.toFixed(1)} s, ${speed}`);
        }
      }
      return text;
    } catch (error) {
      if (error.name === "AbortError") canvas.told.textContent = "Stopped.";
      else if (error instanceof Trouble) { canvas.told.textContent = error.message; this.onTrouble(error); }
      else throw error;
      return null;
    } finally {
      this.abort = null;
      this.onChange(false);
    }
  }
}
