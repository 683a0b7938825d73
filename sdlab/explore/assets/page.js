// The page: its state, the requests to the worker, and what every control does.
"use strict";

const DATA = JSON.parse($("data").textContent);
const TOKENIZER = new Tokenizer(DATA.tokenizer);
const KNOWN = new Map(Object.values(DATA.problems).flat());
const TRIES = 24; // completions of the base that are sampled to find a right one
const MANY = 50;
const TEACHER_CONTEXTS = ["solution", "solution_no_think"];
const columns = []; // see addColumn
let step = 0; // training step on the slider
let teacherContext = "solution";
let chosen = null; // the column whose token the panel shows
let asked = false; // whether the link should ask again
let many = null; // the run of many problems that goes on

// ---- the worker ----

let worker = null, nextId = 1;
const waiting = new Map(); // id -> {resolve, reject, onToken}
const loading = new Map(); // key of a model -> promise

/** Send a request to the worker; return a promise of its result, with its id as `id`. */
function request(kind, fields = {}, onToken = () => {}) {
  const id = nextId++;
  const promise = new Promise((resolve, reject) => {
    waiting.set(id, {resolve, reject, onToken});
    worker.postMessage({id, kind, ...fields});
  });
  promise.id = id;
  return promise;
}

function startWorker() {
  if (!window.Worker) throw new Error("This browser has no workers, and the models run in one. Use a current browser.");
  if (!window.DecompressionStream) throw new Error("This browser cannot unpack the models (it lacks DecompressionStream). Use a current browser.");
  const parts = [...document.querySelectorAll("script[data-worker]")].map(script => script.textContent);
  worker = new Worker(URL.createObjectURL(new Blob(parts, {type: "text/javascript"})));
  worker.onerror = event => complain(`The models have stopped: ${event.message || "the worker could not start"}. Reload the page.`);
  worker.onmessage = ({data}) => {
    const own = waiting.get(data.id);
    if (!own) return;
    if (data.trouble) own.reject(new Error(data.trouble));
    else if (data.done) own.resolve(data);
    else return own.onToken(data);
    waiting.delete(data.id);
  };
}

/** Load a model into the worker, once; a damaged file becomes a plain sentence. */
function load(key) {
  if (!loading.has(key)) {
    const weights = $(`weights-${key}`)?.textContent ?? "";
    const fields = key === "base" ? {config: DATA.config, tokenizer: DATA.tokenizer, weights} : {key, weights};
    const damaged = error => { throw new Error(`The model ${key} in this page is damaged (${error.message}). Get the page again.`); };
    const ask = kind => request(kind, fields).catch(damaged);
    loading.set(key, key === "base" ? ask("start") : load("base").then(() => ask("load")));
  }
  return loading.get(key);
}

// ---- prompts and models ----

/** Return the prompt of a problem, with a demonstration if there is one. */
function promptOf(problem, demonstration) {
  const {plain, informed} = DATA.shapes;
  return demonstration ? informed[0] + problem + informed[1] + demonstration + informed[2] : plain.join(problem);
}

const modelOf = column => DATA.models.find(model => model.name === column.model);

/** Return the training step that a model shows: its last one at or before the slider's. */
function stepOf(model) {
  if (model.steps.length === 1) return model.steps[0];
  return Math.max(0, ...model.steps.filter(one => one <= step));
}

const keyOf = model => model.name === "base" || !stepOf(model) ? "base" : `${model.name}-${stepOf(model)}`;

function labelOf(model) {
  return model.name === "base" ? model.label : `${model.label}, step ${stepOf(model)}`;
}

/** Return the steps that the slider offers: those of the models on the page, and 0. */
function sliderSteps() {
  const steps = columns.map(modelOf).filter(model => model.steps.length > 1).flatMap(model => model.steps);
  return [...new Set([0, ...steps])].sort((a, b) => a - b);
}

// ---- completions ----

const results = new Map(); // what was asked -> its finished result

/** Return a completion; the same request is answered from memory. */
function complete(fields, onToken = () => {}) {
  const name = JSON.stringify(fields);
  if (results.has(name)) return Promise.resolve(results.get(name));
  const promise = request("ask", {limit: DATA.limit, ends: DATA.ends, ...fields}, onToken);
  const kept = promise.then(result => {
    if (!result.stopped) results.set(name, result);
    return result;
  });
  kept.id = promise.id;
  return kept;
}

const solutions = new Map(); // problem -> a right completion of the base, or null

/** Return a right completion of the base for a problem, as SDPO's right sibling; null when there is none. */
async function solutionOf(problem, answer, say = () => {}) {
  if (answer === null) return null;
  await load("base");
  for (let n = 0; n < TRIES && !solutions.has(problem); n++) {
    say(`Looking for a right completion of the base, try ${n + 1} of ${TRIES} …`);
    const result = await complete({key: "base", prompt: promptOf(problem), temperature: 1, seed: 900001 + n});
    if (isRight(result.text, answer)) solutions.set(problem, result.text);
  }
  if (!solutions.has(problem)) solutions.set(problem, null);
  return solutions.get(problem);
}

/** Return the demonstration of a context, or null for "none"; an error when there is no solution. */
async function demonstration(context, problem, answer, say) {
  if (context === "none") return null;
  const solution = await solutionOf(problem, answer, say);
  if (solution === null)
    throw new Error(answer === null
      ? "This text has no known answer, so there is no solution to show. Choose “no context”."
      : `The base found no right completion in ${TRIES} tries, so there is no solution to show. Choose “no context” or another problem.`);
  return context === "solution" ? solution : stripThinking(solution);
}

/** Ask one column, from its prefix on, with the current settings. */
async function askColumn(column) {
  const run = column.run = (column.run || 0) + 1, current = () => column.run === run;
  if (column.request) worker.postMessage({kind: "stop", ids: [column.request]});
  const model = modelOf(column), problem = $("problem").value, {answer} = check();
  Object.assign(column, {result: null, inspected: null, busy: true, tokens: [], answer, state: "…", chosen: null});
  if (chosen === column) closePanel();
  drawTokens(column);
  drawFacts(column);
  try {
    const say = text => { if (current()) { column.state = text; drawFacts(column); } };
    await load(keyOf(model));
    const solution = await demonstration(context(), problem, answer, say);
    if (!current()) return;
    column.prompt = promptOf(problem, solution);
    column.key = keyOf(model);
    say("writing …");
    column.prefixLength = column.prefix.length;
    const fields = {key: column.key, prompt: column.prompt, temperature: Number($("temperature").value), seed: Number($("seed").value)};
    if (column.prefix.length) Object.assign(fields, {prefix: column.prefix, banned: column.banned});
    const promise = complete(fields, token => {
      if (!current()) return;
      column.tokens.push({id: token.token, text: token.text});
      repaint(column);
    });
    column.request = promise.id;
    const result = await promise;
    if (!current() || result.stopped) return;
    column.tokens = result.ids.map((id, t) => ({id, text: result.texts[t]}));
    Object.assign(column, {result, state: ""});
    const {verdict, length, markers} = judge(result, answer);
    $("said").textContent = `${labelOf(model)}: ${verdict}, ${length} tokens, ${markers} markers.`;
  } catch (error) {
    if (current()) column.state = error.message;
  }
  if (!current()) return;
  column.busy = false;
  drawTokens(column);
  drawFacts(column);
  if ($("heat").checked && column.result) inspect(column).catch(() => {});
}

/** Draw a column at the next frame. */
function repaint(column) {
  if (column.painting) return;
  column.painting = true;
  requestAnimationFrame(() => {
    column.painting = false;
    drawTokens(column);
  });
}

/** Ask all columns anew; what the reader had inserted is dropped. */
function askAll() {
  asked = true;
  for (const column of columns) Object.assign(column, {prefix: [], banned: -1});
  return askAgain();
}

async function askAgain() {
  remember();
  if (!check().allowed) return;
  await Promise.all(columns.map(askColumn));
  showSolution();
  remember();
}

/** Show the solution that stands in the prompt. */
function showSolution() {
  const solution = solutions.get($("problem").value);
  $("in-context").hidden = context() === "none" || !solution;
  if (solution) $("solution").textContent = context() === "solution" ? solution : stripThinking(solution);
}

// ---- the problem ----

const context = () => document.querySelector("input[name=context]:checked").value;

/** Check the typed problem and say what it is; return {answer, allowed}. */
function check() {
  const text = $("problem").value, {answer, message} = readProblem(text, DATA.world, KNOWN);
  const allowed = text.trim() !== "";
  $("checked").textContent = answer === null && allowed ? `${message} The models can still be asked, without a verdict.` : message;
  $("checked").classList.toggle("bad", answer === null);
  $("ask").disabled = !allowed;
  return {answer, allowed};
}

function draw() {
  const problems = DATA.problems[$("split").value], now = $("problem").value;
  const others = problems.filter(([text]) => text !== now);
  $("problem").value = others[Math.floor(Math.random() * others.length)][0];
  changed();
}

/** The problem is another one: its completions go. */
function changed() {
  asked = false;
  closePanel();
  for (const column of columns) {
    if (column.request) worker?.postMessage({kind: "stop", ids: [column.request]});
    column.run = (column.run || 0) + 1;
    Object.assign(column, {tokens: [], result: null, inspected: null, state: "", busy: false, prefix: [], banned: -1, prefixLength: 0, chosen: null});
    drawTokens(column);
    drawFacts(column);
  }
  $("in-context").hidden = true;
  check();
  remember();
}
