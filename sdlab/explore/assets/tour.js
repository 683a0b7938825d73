// The guided tour: six steps, each with a thing to do and a part of the page to look at.
"use strict";

let stopNow = -1; // the step of the tour, -1 when it is closed
let guess = ""; // the model that the reader expects to be right most often

const lastColumn = () => columns[columns.length - 1];
const idle = () => new Promise(resolve => {
  const look = () => (columns.some(column => column.busy) ? setTimeout(look, 50) : resolve());
  look();
});

const STOPS = [
  {
    title: "Predict", part: "part-problem", action: "Draw an unseen problem",
    text: () => `All models below started as the same base. Draw a problem of a kind that was never trained on. Which model will be right most often?`,
    act: () => { $("split").value = "unseen-types"; describeSplit(); draw(); },
  },
  {
    title: "Look", part: "part-columns", action: "Ask the models",
    text: () => "All models read the same problem with the same seed. Compare the length, the coloured markers and the verdict. Which model checks its candidates?",
    act: () => askAll(),
  },
  {
    title: "Scrub", part: "part-problem", action: "Play the training",
    text: () => (sliderSteps().length > 1 ? "Move the slider of the training. The problem and the seed stay the same. Which words go first, and which come?" : "This page has no models along training, so there is no slider. Look at the base, or go on."),
    act: async () => {
      for (const one of sliderSteps()) {
        setStep(one);
        await idle();
        await new Promise(resolve => setTimeout(resolve, 900));
        if (stopNow !== 2) return;
      }
    },
  },
  {
    title: "Click", part: "part-columns", action: "Choose the darkest word",
    text: () => "The informed teacher is the base after it has seen the solution. Words are shaded where it and the student differ. Choose the darkest word of the first completion. What would the teacher write there? SDPO pulls its student toward this teacher.",
    act: async () => {
      if (!asked) await askAll();
      await idle();
      const [column] = columns;
      if (!column.result) return;
      if (!$("heat").checked) $("heat").click();
      await pick(column, 0);
      if (!column.inspected) return;
      const heat = column.inspected.map(token => token.divergence);
      await pick(column, heat.indexOf(Math.max(...heat)));
    },
  },
  {
    title: "Insert", part: "part-columns", action: "Insert “Wait” for me",
    text: () => "Put a doubt back. Choose a word in a completion, type “Wait” and press Insert. Does the model look again, and is it right now?",
    act: async () => {
      if (!asked) await askAll();
      await idle();
      const column = lastColumn(), texts = column.tokens.map(token => token.text.trim());
      if (!column.result) return;
      const commit = texts.indexOf("So"), stop = texts.indexOf(".", Math.max(0, commit));
      const t = stop < 0 ? Math.floor(texts.length / 2) : stop + 1;
      await pick(column, Math.min(t, texts.length - 1));
      edit(column, [...before(column, column.chosen), ...idsOf(column, column.chosen, "Wait")], -1);
    },
  },
  {
    title: "Conclude", part: "part-many", action: "Run 50 problems",
    text: () => `One completion is an illustration. Run 50 problems and read the intervals.${guess ? ` You expected ${guess} to be right most often; does the interval of a difference leave out 0?` : ""}`,
    act: () => { if (!many) { $("many-split").value = $("split").value; runMany(); } },
  },
];

/** Show step n of the tour; -1 closes it. */
function tourTo(n) {
  document.querySelectorAll(".lit").forEach(part => part.classList.remove("lit"));
  stopNow = n;
  $("tour").hidden = n < 0;
  document.body.classList.toggle("touring", n >= 0);
  if (n < 0) return $("tour-open").focus();
  const {title, part, action, text, act} = STOPS[n];
  const button = (name, go, className = "") => Object.assign(make("button", {type: "button", textContent: name, className}), {onclick: go});
  const heading = make("h3", {id: "tour-title", tabIndex: -1, textContent: title});
  const choices = n === 0 && columns.length > 1 ? [make("fieldset", {}, make("legend", {textContent: "Your prediction"}), make("div", {className: "choices"}, ...columns.map(modelOf).map(model => {
    const radio = make("input", {type: "radio", name: "guess", checked: guess === model.label});
    radio.onchange = () => { guess = model.label; };
    return make("label", {}, radio, ` ${model.label}`);
  })))] : [];
  $("tour").replaceChildren(
    make("p", {className: "dots", textContent: `Step ${n + 1} of ${STOPS.length}`}), heading, make("p", {textContent: text()}), ...choices,
    make("div", {className: "row"}, button(action, act, "primary")),
    make("div", {className: "row"},
      ...(n ? [button("Back", () => tourTo(n - 1))] : []),
      ...(n + 1 < STOPS.length ? [button("Next", () => tourTo(n + 1))] : []),
      button("End the tour", () => tourTo(-1))));
  $(part).classList.add("lit");
  $(part).scrollIntoView({block: "start"});
  heading.focus({preventScroll: true});
}
