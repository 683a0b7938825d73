// Columns of completions, and the panel of the chosen token: distributions, and edits that continue from there.
"use strict";

let serial = 0;

/** Add a column for the model `name`. */
function addColumn(name) {
  const id = `column-${++serial}`, column = {id, model: name, prefix: [], banned: -1, prefixLength: 0, tokens: [], chosen: null, busy: false, state: ""};
  const select = make("select", {"aria-label": `Model of column ${columns.length + 1}`},
    ...DATA.models.map(model => make("option", {value: model.name, textContent: model.label})));
  select.value = name;
  select.onchange = () => {
    Object.assign(column, {model: select.value, prefix: [], banned: -1});
    drawColumns();
    if (asked) askColumn(column);
    remember();
  };
  column.of = make("span", {className: "of"});
  column.undo = make("button", {type: "button", className: "push", textContent: "Undo the edit", hidden: true});
  column.undo.onclick = () => edit(column, [], -1);
  column.facts = make("p", {className: "facts"});
  column.box = make("div", {className: "completion", role: "listbox", tabIndex: 0, id: `${id}-box`});
  column.box.onclick = event => {
    const option = event.target.closest("[role=option]");
    if (option) pick(column, Number(option.dataset.t));
  };
  column.box.onkeydown = event => walk(column, event);
  column.root = make("article", {className: "column", id}, make("header", {}, select, column.of, column.undo), column.facts, column.box);
  columns.push(column);
  $("columns").append(column.root);
  return column;
}

/** Bring the columns' heads, the slider and the buttons up to date with the state. */
function drawColumns() {
  $("columns").style.setProperty("--count", columns.length);
  const steps = sliderSteps(), slider = $("step");
  $("step-field").hidden = steps.length < 2;
  if (!steps.includes(step)) step = steps.filter(one => one <= step).pop() ?? 0;
  slider.max = steps.length - 1;
  slider.value = steps.indexOf(step);
  const name = step ? `step ${step} of ${steps[steps.length - 1]}` : "step 0, the base";
  $("step-name").textContent = name;
  slider.setAttribute("aria-valuetext", name);
  for (const column of columns) {
    const model = modelOf(column);
    column.root.style.setProperty("--method", model.colour);
    column.of.textContent = model.name === "base" ? "before training" : `after ${stepOf(model)} steps`;
    column.undo.hidden = !column.prefix.length && column.banned < 0;
    column.box.setAttribute("aria-label", `Completion of ${labelOf(model)}. Arrow keys move from word to word.`);
  }
  $("more").disabled = columns.length >= 3;
  $("fewer").disabled = columns.length <= 1;
}

// ---- the chosen token ----

/** Move the choice in a completion by keyboard. */
function walk(column, event) {
  const last = column.tokens.length - 1, now = column.chosen ?? -1;
  const to = {ArrowRight: now + 1, ArrowLeft: now - 1, ArrowDown: now + 10, ArrowUp: now - 10, Home: 0, End: last}[event.key];
  if (event.key === "Escape") closePanel();
  else if (event.key === "Enter" && chosen === column) $("insert")?.focus();
  else if (to !== undefined && last >= 0 && !event.ctrlKey && !event.altKey && !event.metaKey) pick(column, Math.max(0, Math.min(last, to)));
  else return;
  event.preventDefault();
}

/** Choose token t of a column: mark it and show its panel. */
async function pick(column, t) {
  if (column.busy || !column.result) return;
  if (chosen && chosen !== column) closePanel();
  const before = document.getElementById(`${column.id}-${column.chosen}`), after = document.getElementById(`${column.id}-${t}`);
  before?.setAttribute("aria-selected", "false");
  after?.setAttribute("aria-selected", "true");
  column.box.setAttribute("aria-activedescendant", `${column.id}-${t}`);
  column.chosen = t;
  chosen = column;
  drawPanel(column);
  remember();
  try {
    if (!column.inspected) await inspect(column);
    if (chosen === column) drawPanel(column);
  } catch (error) {
    if (chosen === column) drawPanel(column, error.message);
  }
}

function closePanel() {
  $("panel")?.remove();
  if (!chosen) return;
  const column = chosen;
  document.getElementById(`${column.id}-${column.chosen}`)?.setAttribute("aria-selected", "false");
  column.box.removeAttribute("aria-activedescendant");
  column.chosen = chosen = null;
  remember();
}

/** Compute both distributions at every token of a completion; the teacher is the base with the solution. */
async function inspect(column) {
  const run = column.run, problem = $("problem").value, about = teacherContext;
  const solution = await demonstration(about, problem, column.answer, text => { $("said").textContent = text; });
  const {tokens} = await request("inspect", {
    key: column.key, prompt: column.prompt, teacherKey: "base", teacherPrompt: promptOf(problem, solution),
    ids: column.result.ids, top: 6,
  });
  if (column.run !== run || about !== teacherContext) return;
  column.inspected = tokens;
  drawTokens(column);
}

/** Draw the panel of the chosen token; trouble: a sentence instead of the distributions. */
function drawPanel(column, trouble = "") {
  const t = column.chosen, token = column.inspected?.[t], old = $("panel"), word = column.tokens[t].text;
  const kept = {text: $("insert")?.value ?? "", focus: old?.contains(document.activeElement) ? document.activeElement.id : null};
  const close = make("button", {type: "button", className: "close", textContent: "Close", id: "panel-close"});
  close.onclick = () => { closePanel(); column.box.focus(); };
  const head = make("div", {className: "row"},
    make("h3", {id: "panel-title"}, `Word ${t + 1} of ${column.tokens.length}, ${labelOf(modelOf(column))}: `, make("span", {className: "word", textContent: visible(word)})), close);
  const panel = make("section", {className: "panel", id: "panel", "aria-labelledby": "panel-title"}, head,
    make("div", {className: "halves"}, distributions(column, token, trouble), editor(column, t)));
  panel.onkeydown = event => { if (event.key === "Escape") close.click(); };
  if (old) old.replaceWith(panel);
  if (panel.previousElementSibling !== column.root) column.root.after(panel);
  $("insert").value = kept.text;
  if (kept.focus) $(kept.focus)?.focus();
}

function distributions(column, token, trouble) {
  const select = make("select", {id: "teacher"}, ...TEACHER_CONTEXTS.map(name => make("option", {value: name, textContent: DATA.contexts[name]})));
  select.value = teacherContext;
  select.onchange = () => {
    teacherContext = select.value;
    for (const one of columns) one.inspected = null;
    pick(column, column.chosen);
  };
  const choice = make("div", {className: "row"}, make("label", {for: "teacher", textContent: "The teacher is the base with the"}), select);
  if (!token) return make("div", {}, choice, make("p", {role: "status", textContent: trouble || "Computing both distributions …"}));
  const figure = (name, value) => make("div", {}, make("b", {textContent: value}), " ", make("span", {textContent: name}));
  return make("div", {}, choice,
    make("div", {className: "figures"},
      figure("nats divergence (at most 0.69)", fixed(token.divergence, 3)),
      figure("student", percent(token.student)), figure("informed teacher", percent(token.teacher)),
      figure("nats entropy of the student", fixed(token.entropy))),
    make("div", {className: "scroll"},
      likelyTable({...token, id: column.result.ids[column.chosen]}, ["student", "informed teacher"], id => replaceBy(column, [id]))));
}

/** Return the controls that insert, replace or delete at token t. */
function editor(column, t) {
  const input = make("input", {type: "text", id: "insert", autocomplete: "off", maxLength: 200, "aria-describedby": "edit-note"});
  const insert = () => input.value.trim() && edit(column, [...before(column, t), ...idsOf(column, t, input.value)], -1);
  const button = (text, action) => Object.assign(make("button", {type: "button", textContent: text}), {onclick: action});
  input.onkeydown = event => { if (event.key === "Enter") insert(); };
  const quick = ["Wait", "Hmm", "Perhaps"].map(word => button(word, () => { input.value = word; input.focus(); }));
  return make("div", {className: "edit"},
    make("label", {for: "insert", textContent: "Change the completion here and let the model continue"}),
    make("div", {className: "row"}, input, ...quick),
    make("div", {className: "row"},
      button("Insert before", insert),
      button("Replace", () => input.value.trim() && replaceBy(column, idsOf(column, t, input.value))),
      button("Delete", () => edit(column, before(column, t), column.result.ids[t]))),
    make("p", {className: "soft small", id: "edit-note", textContent: "Everything after this place is written anew, with the same seed. Delete means that the model must write another word here."}));
}

const before = (column, t) => column.result.ids.slice(0, t);

/** Return the token ids of a typed word at place t, with a space before it where the text needs one. */
function idsOf(column, t, text) {
  const previous = column.tokens[t - 1]?.text ?? "\n", word = text.trim();
  return TOKENIZER.encode(/\s$/.test(previous) || /^[.,:;!?]/.test(word) ? word : ` ${word}`);
}

const replaceBy = (column, ids) => edit(column, [...before(column, column.chosen), ...ids], -1);

/** Let a column continue from a prefix of token ids; an empty one undoes the edits. */
function edit(column, prefix, banned) {
  Object.assign(column, {prefix, banned});
  closePanel();
  drawColumns();
  askColumn(column).then(remember);
  column.box.focus();
}
