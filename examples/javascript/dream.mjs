// Dream in JavaScript: the whole loop, without caches. `node dream.mjs ARTIFACT QUESTION [ROOM] [THRESHOLD]`
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-node";

// Which keys each query sees: all or, in a block-causal model, those of its own block and of earlier ones.
function mask(model, length) {
  const block = (position) => Math.floor(position / (model.causal_block ?? length));
  const seen = Array.from({ length: length * length }, (_, i) => block(i % length) <= block(Math.floor(i / length)));
  return new ort.Tensor("bool", Uint8Array.from(seen), [1, length, length]);
}

// What every pass needs besides the canvas: no cache, greedy.
function feeds(model, ids, rows) {
  const int64 = (values, dims) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
  const found = {
    input_ids: int64(ids, [1, ids.length]),
    position_ids: int64(ids.keys(), [1, ids.length]),
    attention_mask: mask(model, ids.length),
    logit_rows: int64(rows, [rows.length]),
    temperature: new ort.Tensor("float32", new Float32Array([0]), []),
  };
  for (let layer = 0; layer < model.num_hidden_layers; layer += 1) {
    for (const part of ["key", "value"]) {
      const none = new ort.Tensor("float32", new Float32Array(0), [1, model.num_key_value_heads, 0, model.head_dim]);
      found[`past_key_values.${layer}.${part}`] = none;
    }
  }
  return found;
}

// Which of the proposals to reveal, best first: those of at least `threshold`, always the best; of two equal neighbours
// only the surer one, since tokens that are revealed together do not see each other.
function choose(proposals, threshold, ends, isLast) {
  const best = [...proposals].sort((a, b) => b.probability - a.probability || a.position - b.position);
  if (isLast) return best;
  const sure = best.filter(({ probability }, rank) => rank === 0 || probability >= threshold);
  return sure.filter(({ position, token }, rank) => ends.has(token)
    || !sure.slice(0, rank).some((other) => other.token === token && Math.abs(other.position - position) === 1));
}

export async function generate(artifact, question, room = 64, threshold = 0.98) {
  const { model, graphs, chat_format: chat } = JSON.parse(readFileSync(join(artifact, "manifest.json"), "utf8"));
  if (model.causal_block && model.shift) throw new Error("blocks with a shift are filled in smaller ones: not shown here");
  const tokenizer = new Tokenizer(JSON.parse(readFileSync(join(artifact, "tokenizer.json"), "utf8")), {});
  // Without VNNI, ONNX Runtime's fast 8-bit kernel saturates on x64; this one does not (docs/artifact.md).
  const options = { extra: { session: { x64quantprecision: "1" } } };
  const session = await ort.InferenceSession.create(join(artifact, graphs.cpu), options);
  if (!chat) throw new Error("nobody knows how to write a conversation to this model");
  const system = chat.system === null ? "" : `<|im_start|>system\n${chat.system}<|im_end|>\n`;
  const turns = `${system}<|im_start|>user\n${question}<|im_end|>\n`;
  const opening = `<|im_start|>assistant\n${chat.thinking === "off" ? "<think>\n\n</think>\n\n" : ""}`;
  const prompt = tokenizer.encode(`${turns}${opening}`, { add_special_tokens: false }).ids;
  const ids = [...prompt, ...new Array(room).fill(model.mask_token_id)];
  const turnEnd = tokenizer.encode("<|im_end|>", { add_special_tokens: false }).ids[0];
  const ends = new Set([model.eos_token_id, model.pad_token_id, turnEnd]);
  let masked = ids.map((_, position) => position).slice(prompt.length);
  let steps = 0;
  for (; masked.length; steps += 1) {
    const block = Math.floor(masked[0] / (model.causal_block ?? ids.length)); // one block after the other, if there are any
    const open = masked.filter((position) => Math.floor(position / (model.causal_block ?? ids.length)) === block);
    const rows = open.map((position) => Math.max(0, position - model.shift)); // the row before predicts it
    const { top_ids: tokens, top_probs: probabilities } = await session.run(feeds(model, ids, rows));
    const k = tokens.dims[1]; // best first
    const proposals = open.map((position, row) => (
      { position, token: Number(tokens.data[row * k]), probability: probabilities.data[row * k] }));
    const revealed = choose(proposals, threshold, ends, steps === room - 1);
    for (const { position, token } of revealed) ids[position] = token;
    masked = masked.filter((each) => !revealed.some(({ position }) => position === each)); // by place: a token may be any
  }
  const answer = ids.slice(prompt.length);
  const end = answer.findIndex((token) => ends.has(token));
  const kept = answer.slice(0, end < 0 ? room : end);
  return { ids: answer, steps, text: kept.length ? tokenizer.decode(kept, { skip_special_tokens: true }) : "" };
}

if (process.argv[1] === import.meta.filename) {
  const [artifact, question, room, threshold] = process.argv.slice(2);
  console.log(JSON.stringify(await generate(artifact, question, Number(room ?? 64), Number(threshold ?? 0.98))));
}
