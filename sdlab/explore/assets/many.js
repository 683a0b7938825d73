// Run 50 problems with the models on the page, and draw the results as they come.
"use strict";

async function runMany() {
  if (many) {
    many.stopped = true;
    worker.postMessage({kind: "stop", ids: many.ids});
    return;
  }
  const run = many = {stopped: false, ids: []};
  const problems = DATA.problems[$("many-split").value].slice(0, MANY);
  const rows = columns.map(modelOf).map(model => ({label: labelOf(model), colour: model.colour, key: keyOf(model), values: []}));
  const settings = {context: context(), temperature: Number($("temperature").value), seed: Number($("seed").value)};
  let skipped = 0;
  $("many").textContent = "Stop";
  $("many-progress").hidden = false;
  $("many-progress").max = problems.length;
  try {
    for (const row of rows) await load(row.key);
    for (const [n, [problem, answer]] of problems.entries()) {
      $("many-progress").value = n;
      $("many-state").textContent = `${n} of ${problems.length} done`;
      const solution = await demonstration(settings.context, problem, answer).catch(() => undefined);
      if (solution === undefined) skipped++;
      else if (!run.stopped) await askRows(run, rows, promptOf(problem, solution), answer, {temperature: settings.temperature, seed: settings.seed + 1000 * (n + 1)});
      if (run.stopped) break;
      drawMany($("many-result"), rows);
    }
    $("many-state").textContent = [`${rows[0].values.length} problems done`, skipped ? `${skipped} left out without a right completion of the base` : "", run.stopped ? "stopped" : ""].filter(Boolean).join(", ");
  } catch (error) {
    $("many-state").textContent = error.message;
  }
  many = null;
  $("many").textContent = "Run 50 problems";
  $("many-progress").hidden = true;
}

/** Ask all rows one problem; their verdicts are kept only when all have one. */
async function askRows(run, rows, prompt, answer, settings) {
  const promises = rows.map(row => complete({key: row.key, prompt, ...settings}));
  run.ids = promises.map(promise => promise.id).filter(Boolean);
  const all = await Promise.all(promises);
  if (all.some(result => result.stopped)) return;
  all.forEach((result, i) => rows[i].values.push(judge(result, answer)));
}
