// Draw completions, the panel of one token, and the chart. Texts enter the page as text only, never as markup.
"use strict";

const $ = id => document.getElementById(id);

/** Show a plain sentence at the top of the page; an empty one takes it away. */
function complain(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

window.addEventListener("error", event => {
  if ($("trouble").hidden) complain(`This page is damaged or met an error (${event.message}). Reload it, or get it again.`);
});

/** Return a new element. attributes: properties, or attributes with a dash or "role"; children: nodes or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.includes("-") || ["role", "for", "list"].includes(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Return a token with its invisible characters made visible. */
function visible(text) {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣") || "(empty)";
}

const percent = logp => { const p = 100 * Math.exp(logp); return p >= 99.95 ? "100%" : p >= 0.1 ? `${p.toFixed(1)}%` : p >= 0.001 ? `${p.toFixed(3)}%` : "under 0.001%"; };
const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : "–").replace("-", "−");

/** Draw the tokens of a column: the thinking in a box, markers coloured, the words of the reader underlined. */
function drawTokens(column) {
  const {box, tokens} = column, think = make("span", {className: "think", role: "presentation"});
  const text = tokens.map(token => token.text).join(""), spans = markerSpans(text, DATA.families);
  const end = tokens.findIndex(token => token.text === "</think>");
  const thinks = tokens.length && (tokens[0].text === "<think>" || end >= 0);
  const nodes = [];
  let at = 0;
  tokens.forEach((token, t) => {
    const from = at, to = at += token.text.length;
    const span = spans.find(([start, stop]) => start < to && stop > from);
    const option = make("span", {
      id: `${column.id}-${t}`, role: "option", textContent: token.text, className: "",
      "aria-selected": String(column.chosen === t), "aria-label": visible(token.text) + (span ? `, marker, ${span[2]}` : ""),
    });
    option.dataset.t = t;
    if (span) {
      const start = token.text.search(/\S/);
      option.replaceChildren(token.text.slice(0, start), make("b", {className: `marker ${span[2]}`, textContent: token.text.slice(start)}));
    }
    if (/^<\/?think>$|^<\|.*\|>$/.test(token.text)) option.classList.add("tag");
    if (/^\n+$/.test(token.text)) option.classList.add("line", end >= 0 && t > end ? "still" : "break");
    if (t < column.prefixLength) option.classList.add("mine");
    if ($("heat").checked && column.inspected && !span) {
      const share = Math.min(1, column.inspected[t].divergence / Math.LN2);
      if (share > 0.02) option.style.backgroundColor = `rgba(var(--heat), calc(var(--most) * ${(0.15 + 0.85 * share).toFixed(2)}))`;
    }
    if (thinks && (end < 0 || t <= end)) think.append(option);
    else nodes.push(option);
  });
  box.replaceChildren(...(thinks ? [think] : []), ...nodes);
  box.classList.toggle("writing", column.busy);
  if (column.chosen !== null) box.setAttribute("aria-activedescendant", `${column.id}-${column.chosen}`);
  else box.removeAttribute("aria-activedescendant");
}

/** Return what a finished completion is: {verdict, length, markers, density}. */
function judge(result, answer) {
  const markers = markerSpans(result.text, DATA.families).length, length = result.ids.length;
  const right = answer === null ? null : isRight(result.text, answer);
  const verdict = right ? "right" : result.truncated ? "cut off" : right === null ? "no verdict" : "wrong";
  return {verdict, right, length, markers, density: 1000 * markers / length};
}

/** Draw the line of facts of a column. */
function drawFacts(column) {
  const {facts, result, state} = column;
  if (state) return facts.replaceChildren(make("span", {textContent: state}));
  if (!result) return facts.replaceChildren();
  const {verdict, length, markers, density} = judge(result, column.answer);
  facts.replaceChildren(
    make("span", {className: `pill ${verdict === "cut off" ? "wrong" : verdict}`, textContent: verdict}),
    make("span", {textContent: `${length} tokens`}),
    make("span", {textContent: `${markers} marker${markers === 1 ? "" : "s"}`}),
    make("span", {textContent: `${density.toFixed(0)} per 1,000 tokens`}),
  );
}

function bar(kind, logp) {
  const fill = make("i", {className: kind});
  fill.style.width = `${(100 * Math.exp(logp)).toFixed(1)}%`;
  return make("span", {className: "bar", "aria-hidden": "true"}, fill);
}

/** Return the table of the likeliest tokens of student and teacher. replace(id, text) puts one in place. */
function likelyTable(token, names, replace) {
  const seen = one => one.id === token.id || Math.max(one.student, one.teacher) > Math.log(0.0005);
  const rows = token.likely.filter(seen).map(one => {
    const own = one.id === token.id;
    const button = make("button", {type: "button", textContent: own ? "written" : "write this", disabled: own});
    if (!own) button.setAttribute("aria-label", `Write ${visible(one.text)} here and continue`);
    button.onclick = () => replace(one.id);
    return make("tr", {className: own ? "chosen" : ""},
      make("th", {scope: "row"}, make("span", {className: "word", textContent: visible(one.text)})),
      make("td", {}, bar("student", one.student), percent(one.student)),
      make("td", {}, bar("teacher", one.teacher), percent(one.teacher)),
      make("td", {}, button));
  });
  const heads = ["token", names[0], names[1], ""].map(name => make("th", {scope: "col", textContent: name}));
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

/** Return an interval as a picture: a line from low to high and a dot at the mean, on a scale from 0 to most. */
function intervalPicture([mean, low, high], most, colour) {
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 200 24");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const x = value => 4 + 192 * Math.max(0, Math.min(1, value / most));
  const add = (tag, attributes) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    svg.append(element);
  };
  add("rect", {x: 4, y: 19, width: 192, height: 1, fill: "currentColor", opacity: 0.3});
  add("rect", {x: x(low), y: 10, width: Math.max(1, x(high) - x(low)), height: 4, fill: colour, opacity: 0.55});
  add("rect", {x: x(mean) - 2, y: 4, width: 4, height: 16, fill: colour});
  return svg;
}

const METRICS = [["score", "right", 2, true], ["markers per completion", "markers", 1, false], ["length (tokens)", "length", 0, false]];

/** Draw the results of many problems. rows: {label, colour, values: [judgements]}; the first is compared with. */
function drawMany(target, rows) {
  const done = rows.filter(row => row.values.length);
  if (!done.length) return target.replaceChildren();
  const column = (row, field) => row.values.map(value => Number(value[field]));
  const most = METRICS.map(([, field, , share]) =>
    share ? 1 : Math.max(1e-9, ...done.map(row => { const [mean, , high] = interval(column(row, field), false); return Number.isFinite(high) ? high : 2 * mean; })));
  const lines = done.map(row => make("tr", {},
    make("th", {scope: "row"}, swatch(row.colour), row.label),
    ...METRICS.map(([, field, digits, share], m) => {
      const [mean, low, high] = interval(column(row, field), share);
      return make("td", {}, intervalPicture([mean, Math.max(0, low), high], most[m], row.colour),
        `${fixed(mean, digits)} [${fixed(Math.max(0, low), digits)}, ${fixed(high, digits)}]`);
    })));
  const heads = ["model", ...METRICS.map(([name]) => name)].map(name => make("th", {scope: "col", textContent: name}));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines));
  const [first, ...others] = done;
  const sentences = others.filter(row => row.values.length > 1).map(row => {
    const n = Math.min(row.values.length, first.values.length);
    const [mean, low, high] = interval(column(row, "right").slice(0, n).map((value, i) => value - Number(first.values[i].right)), false);
    const inside = value => fixed(Math.max(-1, Math.min(1, value)));
    const meaning = low > 0 || high < 0 ? "" : " (not significant: the interval includes 0)";
    return make("p", {textContent: `${row.label} minus ${first.label}: score ${mean > 0 ? "+" : ""}${fixed(mean)} [${inside(low)}, ${inside(high)}] on the same ${n} problems${meaning}.`});
  });
  target.replaceChildren(make("div", {className: "scroll", tabIndex: 0, role: "region", "aria-label": "Results by model"}, table), ...sentences);
}

function swatch(colour) {
  const element = make("span", {className: "swatch", "aria-hidden": "true"});
  element.style.backgroundColor = colour;
  return element;
}
