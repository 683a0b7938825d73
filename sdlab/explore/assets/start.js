// Connect the controls, start the worker and restore the state of the address.
"use strict";

/** Move the slider to a training step; models that change there answer the same problem with the same seed. */
function setStep(one) {
  const keys = columns.map(column => keyOf(modelOf(column)));
  step = one;
  drawColumns();
  columns.forEach((column, i) => {
    if (asked && keyOf(modelOf(column)) !== keys[i]) askColumn(column).then(remember);
  });
  remember();
}

function describeSplit() {
  const chosenSplit = $("split").selectedOptions[0];
  $("split-about").textContent = chosenSplit.title;
}

function connect() {
  $("ask").onclick = askAll;
  $("draw").onclick = draw;
  $("split").onchange = () => { describeSplit(); draw(); };
  $("problem").oninput = changed;
  for (const box of document.querySelectorAll("input[name=context]")) box.onchange = () => (asked ? askAll() : remember());
  for (const id of ["temperature", "seed"]) $(id).onchange = () => (asked ? askAll() : remember());
  $("step").oninput = () => setStep(sliderSteps()[Number($("step").value)]);
  $("heat").onchange = async () => {
    for (const column of columns) {
      if ($("heat").checked && column.result && !column.inspected) await inspect(column).catch(error => { $("said").textContent = error.message; });
      drawTokens(column);
    }
  };
  $("more").onclick = () => {
    const used = columns.map(column => column.model);
    const column = addColumn((DATA.models.find(model => !used.includes(model.name)) ?? DATA.models[0]).name);
    drawColumns();
    if (asked) askColumn(column);
    remember();
  };
  $("fewer").onclick = () => {
    const column = columns.pop();
    if (chosen === column) closePanel();
    column.run = -1;
    column.root.remove();
    drawColumns();
    remember();
  };
  $("many").onclick = runMany;
  $("copy").onclick = copyLink;
  $("tour-open").onclick = () => tourTo(0);
  $("tour").onkeydown = event => { if (event.key === "Escape") tourTo(-1); };
  document.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("ask").disabled) {
      event.preventDefault();
      askAll();
    }
  });
}

try {
  connect();
  startWorker();
  $("about").textContent = `organism ${DATA.organism.slice(0, 12)}, trained models: ${DATA.models.length - 1}`;
  load("base").catch(error => complain(error.message));
  restore();
} catch (error) {
  if ($("trouble").hidden) complain(error.message);
}
document.documentElement.dataset.started = "yes";
