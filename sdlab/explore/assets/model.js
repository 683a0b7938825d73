// Qwen3 in plain JavaScript: read the weights, run the blocks, choose a token.
// Weights and activations are float32, sums are float64. Shapes are given as (rows, columns), row after row.
"use strict";

// ---- weights ----

const HALVES = new Float32Array(65536); // the value of every float16, by its bits
for (let bits = 0; bits < 65536; bits++) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  HALVES[bits] = exponent === 31 ? (fraction ? NaN : sign * Infinity)
    : exponent === 0 ? sign * fraction * 2 ** -24
    : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=>?@^_`{|}~";

/** Return the bytes of a text in base 85, as sdlab.explore.weights.to_text writes it. */
function fromText(text) {
  const values = new Uint8Array(128).fill(255), bytes = new Uint8Array(Math.ceil(text.length / 5) * 4);
  for (let i = 0; i < 85; i++) values[DIGITS.charCodeAt(i)] = i;
  for (let i = 0, at = 0; i < text.length; i += 5, at += 4) {
    let number = 0;
    for (let k = 0; k < 5; k++) number = number * 85 + (i + k < text.length ? values[text.charCodeAt(i + k)] : 84);
    for (let k = 3; k >= 0; k--, number = Math.floor(number / 256)) bytes[at + k] = number % 256;
  }
  return bytes.subarray(0, bytes.length - (text.length % 5 ? 5 - text.length % 5 : 0));
}

/** Return the content of a gzip file that a page holds as text; a damaged text is an error. */
async function unpack(text) {
  const bytes = fromText(text.trim());
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return the tensors of a safetensors file by name, each {shape, data}; float16 becomes float32. */
function readTensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const tensors = {};
  for (const [name, {dtype, shape, data_offsets: [from, to]}] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const own = bytes.slice(start + from, start + to).buffer;
    const read = {
      F32: () => new Float32Array(own),
      F16: () => Float32Array.from(new Uint16Array(own), bits => HALVES[bits]),
      I8: () => new Int8Array(own),
    }[dtype];
    if (!read) throw new Error(`tensor ${name} has the unknown type ${dtype}`);
    tensors[name] = {shape, data: read()};
  }
  return tensors;
}

/** Return the weights of a trained model: base + code * scale for matrices, whole vectors otherwise. */
function addDifference(base, difference) {
  const weights = {};
  for (const [name, {shape, data}] of Object.entries(base)) {
    if (shape.length === 1) {
      weights[name] = difference[name];
      continue;
    }
    const codes = difference[name + ".codes"].data, scales = difference[name + ".scales"].data;
    const columns = shape[1], sum = new Float32Array(data.length);
    for (let i = 0; i < sum.length; i++) sum[i] = data[i] + codes[i] * scales[(i / columns) | 0];
    weights[name] = {shape, data: sum};
  }
  return weights;
}

// ---- arithmetic ----

/** out (rows) = weights (rows, columns) times x (columns), or out += that. */
function multiply(out, weights, x, rows, columns, add = false) {
  for (let row = 0, at = 0; row < rows; row++) {
    let a = 0, b = 0, c = 0, d = 0, column = 0;
    for (; column + 3 < columns; column += 4, at += 4) {
      a += weights[at] * x[column];
      b += weights[at + 1] * x[column + 1];
      c += weights[at + 2] * x[column + 2];
      d += weights[at + 3] * x[column + 3];
    }
    for (; column < columns; column++, at++) a += weights[at] * x[column];
    const sum = a + b + (c + d);
    out[row] = add ? out[row] + sum : sum;
  }
}

/** out[start ... start + size - 1] = x there, divided by its root mean square, times scale (size). */
function normalise(out, x, scale, eps, start, size) {
  let squares = 0;
  for (let i = start; i < start + size; i++) squares += x[i] * x[i];
  const factor = 1 / Math.sqrt(squares / size + eps);
  for (let i = 0; i < size; i++) out[start + i] = x[start + i] * factor * scale[i];
}

/** Rotate one head of x, at `start`, by the angles of its position (rotary embedding, half against half). */
function rotate(x, start, half, cos, sin) {
  for (let i = 0; i < half; i++) {
    const a = x[start + i], b = x[start + half + i];
    x[start + i] = a * cos[i] - b * sin[i];
    x[start + half + i] = b * cos[i] + a * sin[i];
  }
}

/** Return log softmax(logits / temperature); temperature 0 counts as 1. */
function logSoftmax(logits, temperature = 1) {
  const divisor = temperature || 1;
  let most = -Infinity, total = 0;
  for (const value of logits) most = Math.max(most, value);
  for (const value of logits) total += Math.exp((value - most) / divisor);
  const shift = most / divisor + Math.log(total);
  return Float32Array.from(logits, value => value / divisor - shift);
}

// ---- the model ----

class Qwen3 {
  /** config: config.json of the model. weights: tensors by their names in transformers. */
  constructor(config, weights) {
    const get = name => {
      if (!weights[name]) throw new Error(`the weights lack ${name}`);
      return weights[name].data;
    };
    this.width = config.hidden_size;
    this.heads = config.num_attention_heads;
    this.kvHeads = config.num_key_value_heads;
    this.headDim = config.head_dim;
    this.inner = config.intermediate_size;
    this.eps = config.rms_norm_eps;
    this.theta = (config.rope_parameters || config).rope_theta;
    this.context = config.max_position_embeddings;
    this.embedding = get("model.embed_tokens.weight");
    this.vocabulary = this.embedding.length / this.width;
    this.head = config.tie_word_embeddings ? this.embedding : get("lm_head.weight");
    this.norm = get("model.norm.weight");
    this.layers = [];
    for (let i = 0; i < config.num_hidden_layers; i++) {
      const own = name => get(`model.layers.${i}.${name}.weight`);
      this.layers.push({
        normIn: own("input_layernorm"), normMlp: own("post_attention_layernorm"),
        q: own("self_attn.q_proj"), k: own("self_attn.k_proj"), v: own("self_attn.v_proj"),
        normQ: own("self_attn.q_norm"), normK: own("self_attn.k_norm"), out: own("self_attn.o_proj"),
        gate: own("mlp.gate_proj"), up: own("mlp.up_proj"), down: own("mlp.down_proj"),
      });
    }
    const array = size => new Float32Array(size);
    this.scratch = {
      x: array(this.width), y: array(this.width), q: array(this.heads * this.headDim),
      mixed: array(this.heads * this.headDim), gate: array(this.inner), up: array(this.inner),
      scores: new Float64Array(this.context), cos: array(this.headDim / 2), sin: array(this.headDim / 2),
    };
  }

  /** Return an empty cache of keys and values for at most `room` tokens. */
  newCache(room) {
    const size = room * this.kvHeads * this.headDim;
    const empty = () => this.layers.map(() => new Float32Array(size));
    return {length: 0, room, keys: empty(), values: empty()};
  }

  /** Append one token to the cache; return the logits (V) of the next one, or null without `withLogits`. */
  step(cache, token, withLogits = true) {
    const {width, heads, kvHeads, headDim, inner, eps} = this;
    const {x, y, q, gate, up, mixed, cos, sin} = this.scratch;
    const half = headDim / 2, kvWidth = kvHeads * headDim, place = cache.length;
    if (place >= cache.room) throw new Error("the cache is full");
    for (let i = 0; i < half; i++) {
      const angle = place * this.theta ** (-2 * i / headDim);
      cos[i] = Math.cos(angle);
      sin[i] = Math.sin(angle);
    }
    x.set(this.embedding.subarray(token * width, (token + 1) * width));
    this.layers.forEach((layer, n) => {
      const keys = cache.keys[n], values = cache.values[n], at = place * kvWidth;
      const k = keys.subarray(at, at + kvWidth), v = values.subarray(at, at + kvWidth);
      normalise(y, x, layer.normIn, eps, 0, width);
      multiply(q, layer.q, y, heads * headDim, width);
      multiply(k, layer.k, y, kvWidth, width);
      multiply(v, layer.v, y, kvWidth, width);
      for (const [vector, count, scale] of [[q, heads, layer.normQ], [k, kvHeads, layer.normK]]) {
        for (let head = 0; head < count; head++) {
          normalise(vector, vector, scale, eps, head * headDim, headDim);
          rotate(vector, head * headDim, half, cos, sin);
        }
      }
      this.attend(keys, values, place + 1);
      multiply(x, layer.out, mixed, width, heads * headDim, true);
      normalise(y, x, layer.normMlp, eps, 0, width);
      multiply(gate, layer.gate, y, inner, width);
      multiply(up, layer.up, y, inner, width);
      for (let i = 0; i < inner; i++) gate[i] = gate[i] / (1 + Math.exp(-gate[i])) * up[i];
      multiply(x, layer.down, gate, width, inner, true);
    });
    cache.length++;
    if (!withLogits) return null;
    const logits = new Float32Array(this.vocabulary);
    normalise(y, x, this.norm, eps, 0, width);
    multiply(logits, this.head, y, this.vocabulary, width);
    return logits;
  }

  /** Mix the first `count` values for every query head by softmax(query . key / sqrt(headDim)). */
  attend(keys, values, count) {
    const {heads, kvHeads, headDim} = this, {q, mixed, scores} = this.scratch;
    const kvWidth = kvHeads * headDim, scale = 1 / Math.sqrt(headDim);
    for (let head = 0; head < heads; head++) {
      const own = head * headDim, shared = Math.floor(head * kvHeads / heads) * headDim;
      let most = -Infinity, total = 0;
      for (let t = 0; t < count; t++) {
        let sum = 0;
        for (let i = 0; i < headDim; i++) sum += q[own + i] * keys[t * kvWidth + shared + i];
        scores[t] = sum * scale;
        most = Math.max(most, scores[t]);
      }
      for (let t = 0; t < count; t++) total += scores[t] = Math.exp(scores[t] - most);
      for (let i = 0; i < headDim; i++) {
        let sum = 0;
        for (let t = 0; t < count; t++) sum += scores[t] * values[t * kvWidth + shared + i];
        mixed[own + i] = sum / total;
      }
    }
  }
}

// ---- sampling ----

/** Return a uniform number in [0, 1) for a seed and a position: the same on every machine. */
function uniformAt(seed, position) {
  let bits = (Math.imul(seed, 0x9e3779b1) + Math.imul(position + 1, 0x85ebca77)) | 0;
  for (let round = 0; round < 2; round++) {
    bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    bits ^= bits >>> 16;
  }
  return (bits >>> 0) / 2 ** 32;
}

/** Return the next token: the most likely one at temperature 0, else the inverse CDF at `uniform`. */
function choose(logits, temperature, uniform, banned = -1) {
  const logps = logSoftmax(logits, temperature);
  if (banned >= 0) logps[banned] = -Infinity;
  if (!temperature) return logps.indexOf(logps.reduce((most, value) => Math.max(most, value)));
  const running = new Float64Array(logps.length);
  let total = 0;
  for (let id = 0; id < logps.length; id++) running[id] = total += Math.exp(logps[id]);
  const place = running.findIndex(sum => sum > uniform * total);
  return place < 0 ? running.length - 1 : place;
}

/** Return SDPO's token loss in nats: Jensen-Shannon on the student's `top` likeliest tokens and a tail. */
function divergence(student, teacher, top = 100) {
  const ids = Array.from(student.keys()).sort((a, b) => student[b] - student[a]).slice(0, top);
  const pick = logps => {
    const probs = ids.map(id => Math.exp(logps[id]));
    const rest = 1 - Math.min(probs.reduce((sum, p) => sum + p, 0), 1 - 1e-7);
    return top < logps.length ? [...probs, rest] : probs;
  };
  const p = pick(student), q = pick(teacher), part = (a, b) => a > 0 ? a * Math.log(2 * a / (a + b)) : 0;
  return p.reduce((sum, a, i) => sum + (part(a, q[i]) + part(q[i], a)) / 2, 0);
}
