// The worker: it holds the models, and answers the page's requests so that the page never freezes.
// A request {id, kind, ...} gets any number of {id, token, ...} and one {id, done: true, ...} or {id, trouble}.
"use strict";

const BREATH = 20; // milliseconds of work between two looks at new messages
let tokenizer, config, base;
const models = new Map(); // key -> Qwen3
const jobs = new Map(); // id -> generator
let running = false;

onmessage = async ({data}) => {
  try {
    if (data.kind === "stop") return stop(data.ids);
    if (data.kind === "start") await start(data);
    else if (data.kind === "load") await load(data);
    else {
      jobs.set(data.id, {ask, inspect}[data.kind](data));
      return run();
    }
    postMessage({id: data.id, done: true});
  } catch (error) {
    postMessage({id: data.id, trouble: error.message});
  }
};

/** Read the tokenizer and the base. */
async function start(data) {
  config = data.config;
  tokenizer = new Tokenizer(data.tokenizer);
  base = readTensors(await unpack(data.weights));
  models.set("base", new Qwen3(config, base));
}

/** Read one trained model, once. */
async function load({key, weights}) {
  if (!models.has(key)) models.set(key, new Qwen3(config, addDifference(base, readTensors(await unpack(weights)))));
}

function stop(ids) {
  for (const id of ids) if (jobs.delete(id)) postMessage({id, done: true, stopped: true});
}

/** Advance all jobs in turn, one token each, and look at new messages in between. */
async function run() {
  if (running) return;
  running = true;
  let since = performance.now();
  while (jobs.size) {
    for (const [id, job] of [...jobs]) {
      try {
        const {value, done} = job.next();
        if (value) postMessage({id, ...value, done});
        if (done) jobs.delete(id);
      } catch (error) {
        jobs.delete(id);
        postMessage({id, trouble: error.message});
      }
      if (performance.now() - since > BREATH) {
        await new Promise(resolve => setTimeout(resolve));
        since = performance.now();
      }
    }
  }
  running = false;
}

/** Run tokens through a model without asking for logits, except for the last. */
function* read(model, cache, ids) {
  let logits = null;
  for (let i = 0; i < ids.length; i++) {
    logits = model.step(cache, ids[i], i === ids.length - 1);
    yield null;
  }
  return logits;
}

/** Return the ids of a prompt; too long a prompt is an error for the reader. */
function encodePrompt(model, prompt, limit) {
  const ids = tokenizer.encode(prompt);
  if (ids.length + limit > model.context)
    throw new Error(`The text is too long: ${ids.length} tokens of prompt and up to ${limit} of completion; the model reads ${model.context}. Shorten it.`);
  return ids;
}

/**
 * Write a completion. key: the model. prefix: token ids it begins with. banned: a token that must not come
 * next. The uniform numbers depend on `seed` and the position only.
 */
function* ask({key, prompt, limit, temperature, seed, ends, prefix = [], banned = -1}) {
  const model = models.get(key), began = performance.now();
  const ids = encodePrompt(model, prompt, limit);
  const written = [...prefix];
  if (written.length >= limit) throw new Error(`The text is too long: the completion would begin with ${written.length} tokens, and ${limit} are allowed. Insert less.`);
  const cache = model.newCache(ids.length + limit + 1);
  for (const id of written) yield {token: id, text: tokenizer.decode([id], true)};
  let logits = yield* read(model, cache, [...ids, ...written]);
  while (written.length < limit && !ends.includes(written[written.length - 1])) {
    const token = choose(logits, temperature, uniformAt(seed, written.length), banned);
    banned = -1;
    written.push(token);
    yield {token, text: tokenizer.decode([token], true)};
    if (!ends.includes(token) && written.length < limit) logits = model.step(cache, token);
  }
  return {
    ids: written, texts: written.map(id => tokenizer.decode([id], true)), text: tokenizer.decode(written), truncated: !ends.includes(written[written.length - 1]),
    milliseconds: performance.now() - began, steps: ids.length + written.length,
  };
}

/**
 * Compare student and teacher at every token of a completion. The result has one entry per token:
 * logps of the token (student, teacher), divergence, entropy, and the `top` likeliest tokens of both.
 */
function* inspect({key, prompt, teacherKey, teacherPrompt, ids, top}) {
  const sides = [];
  for (const [name, text] of [[key, prompt], [teacherKey, teacherPrompt]]) {
    const model = models.get(name), promptIds = encodePrompt(model, text, ids.length);
    const cache = model.newCache(promptIds.length + ids.length);
    const rows = [logSoftmax(yield* read(model, cache, promptIds))];
    for (const id of ids.slice(0, -1)) {
      rows.push(logSoftmax(model.step(cache, id)));
      yield null;
    }
    sides.push(rows);
  }
  return {tokens: ids.map((id, t) => describe(id, sides[0][t], sides[1][t], top))};
}

function describe(id, student, teacher, top) {
  const best = logps => Array.from(logps.keys()).sort((a, b) => logps[b] - logps[a]).slice(0, top);
  const ids = [...new Set([...best(student), ...best(teacher).slice(0, Math.ceil(top / 2)), id])];
  return {
    student: student[id], teacher: teacher[id], divergence: divergence(student, teacher),
    entropy: -student.reduce((sum, logp) => sum + (logp > -80 ? Math.exp(logp) * logp : 0), 0),
    likely: ids.map(one => ({id: one, text: tokenizer.decode([one], true), student: student[one], teacher: teacher[one]})),
  };
}
