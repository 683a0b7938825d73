// The link that restores the state: everything stands after the # of the address.
"use strict";

let written = ""; // the last # that this page wrote

/** Write the state into the address. */
function remember() {
  const state = new URLSearchParams({
    p: $("problem").value, c: context(), m: columns.map(column => column.model).join(","),
    s: step, seed: $("seed").value, t: $("temperature").value, d: $("split").value,
  });
  if (teacherContext !== TEACHER_CONTEXTS[0]) state.set("tc", teacherContext);
  if (asked) state.set("a", 1);
  columns.forEach((column, i) => {
    if (column.prefix.length || column.banned >= 0) state.set(`e${i}`, `${column.prefix.join(".")}!${column.banned}`);
    if (column === chosen) state.set("k", `${i}.${column.chosen}`);
  });
  written = `#${state}`;
  try {
    history.replaceState(null, "", written);
  } catch {
    location.replace(written); // an address that may not be changed otherwise
  }
}

/** Restore the state of the address; what it lacks or gets wrong keeps its usual value. */
async function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  const option = (id, value) => { if ([...$(id).options].some(one => one.value === value)) $(id).value = value; };
  const number = (name, fallback) => (/^\d{1,6}$/.test(state.get(name) ?? "") ? Number(state.get(name)) : fallback);
  const names = (state.get("m") ?? "").split(",").filter(name => DATA.models.some(model => model.name === name));
  const usual = ["base", "sdpo", "grpo"].filter(name => DATA.models.some(model => model.name === name));
  const others = DATA.models.map(model => model.name).filter(name => !usual.includes(name));
  closePanel();
  for (const column of columns.splice(0)) column.root.remove();
  for (const name of (names.length ? names : [...usual, ...others]).slice(0, 3)) addColumn(name);
  option("split", state.get("d"));
  $("many-split").value = $("split").value;
  option("temperature", state.get("t"));
  const box = [...document.querySelectorAll("input[name=context]")].find(one => one.value === state.get("c"));
  (box ?? document.querySelector("input[name=context]")).checked = true;
  teacherContext = TEACHER_CONTEXTS.includes(state.get("tc")) ? state.get("tc") : TEACHER_CONTEXTS[0];
  $("seed").value = number("seed", 0);
  step = number("s", Infinity);
  $("problem").value = state.has("p") ? state.get("p") : DATA.problems[$("split").value][0][0];
  drawColumns();
  describeSplit();
  columns.forEach((column, i) => {
    const match = (state.get(`e${i}`) ?? "").match(/^((?:\d+(?:\.\d+)*)?)!(-1|\d+)$/);
    const ids = match && match[1] ? match[1].split(".").map(Number) : [];
    if (match && [...ids, Number(match[2])].every(id => id < DATA.config.vocab_size)) Object.assign(column, {prefix: ids, banned: Number(match[2])});
  });
  const place = (state.get("k") ?? "").match(/^(\d)\.(\d{1,4})$/);
  check();
  asked = state.get("a") === "1";
  if (!asked) return remember();
  await askAgain();
  drawColumns();
  const column = place && columns[Number(place[1])];
  if (column && Number(place[2]) < column.tokens.length) await pick(column, Number(place[2]));
}

window.addEventListener("hashchange", () => { if (location.hash !== written) restore(); });

async function copyLink() {
  remember();
  try {
    await navigator.clipboard.writeText(location.href);
    $("copied").textContent = "Copied.";
  } catch {
    $("copied").textContent = "Copy the address of this page: it holds the state.";
  }
}
