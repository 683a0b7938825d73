// Read a typed problem: whether the world's grammar allows it, and what its answer is.
"use strict";

/** Join as in "3, 9 or 15". */
function listing(items) {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} or ${items[items.length - 1]}`;
}

/** Thrown for a text that is no problem of the world; its message is for the reader. */
class NotAProblem extends Error {}

/**
 * Return {answer, message} of a problem's text; answer is null when the text is not a problem of the world.
 * world: the tables of sdlab.explore.page. known: a Map from the text of listed problems to their answers.
 */
function readProblem(text, world, known) {
  try {
    if (!text.trim()) throw new NotAProblem("The problem is empty. Type one, or press Draw.");
    if (/\bundergoes\b/.test(text)) return readReaction(text, world);
    if (/^Kata\b/.test(text)) throw new NotAProblem("This is not one of the listed kata, so its answer is unknown.");
    return readHunt(text, world);
  } catch (error) {
    if (!(error instanceof NotAProblem)) throw error;
    if (known.has(text)) return {answer: known.get(text), message: `Well formed. The answer is ${known.get(text)}.`};
    return {answer: null, message: error.message};
  }
}

/** Read a number hunt: one sentence with a clue and a check for every letter, then the question. */
function readHunt(text, world) {
  const begin = `All numbers are from 1 to ${world.top}. `;
  if (!text.startsWith(begin)) throw new NotAProblem(`A number hunt begins with “${begin.trim()}”; this text does not.`);
  const parts = text.slice(begin.length).match(/^(.*\.) What is (.*)\?$/s);
  if (!parts) throw new NotAProblem("A number hunt ends with a question such as “What is A + B?”.");
  const sentences = parts[1].slice(0, -1).split(". ");
  if (sentences.length > world.names.length)
    throw new NotAProblem(`This hunt has ${sentences.length} sentences; the letters ${listing(world.names)} allow ${world.names.length}.`);
  const names = world.names.slice(0, sentences.length), question = names.join(" + ");
  const numbers = sentences.map((sentence, i) => readSentence(sentence, names[i], world));
  if (parts[2] !== question) throw new NotAProblem(`The question must be “What is ${question}?” for these sentences.`);
  const answer = String(numbers.reduce((sum, number) => sum + number, 0));
  const values = names.map((name, i) => `${name} = ${numbers[i]}`).join(", ");
  return {answer, message: `Well formed. ${values}${names.length > 1 ? `, so the answer is ${answer}` : ""}.`};
}

/** Return the only number that fits "A <clue> and <check>". */
function readSentence(sentence, name, world) {
  if (!sentence.startsWith(`${name} `))
    throw new NotAProblem(`“${sentence}” should begin with the letter ${name}.`);
  for (const {words, values} of world.checks) {
    const [before, after] = words.split("{}").map(part => part.replace(/[.*+?^$()[\]{}|\\]/g, "\\$&"));
    const match = sentence.slice(name.length + 1).match(new RegExp(`^(.*) and ${before}(\\d+)${after}$`));
    if (!match) continue;
    const candidates = world.clues[match[1]];
    if (!candidates)
      throw new NotAProblem(`The clue “${match[1]}” of ${name} is unknown. Clues look like this: ${world.clueExamples.map(words => `“${words}”`).join(", ")}.`);
    if (!candidates.length) throw new NotAProblem(`No number fits the clue “${match[1]}” of ${name}.`);
    const fitting = candidates.filter(number => values[number - 1] === Number(match[2]));
    if (fitting.length !== 1)
      throw new NotAProblem(`${fitting.length ? `${listing(fitting)} pass` : "None passes"} the check of ${name}, out of ${listing(candidates)}; exactly one must.`);
    return fitting[0];
  }
  throw new NotAProblem(`The check of ${name} is unknown. After “and” comes one of: ${world.checks.map(check => `“${check.words.replace("{}", "N")}”`).join(", ")}.`);
}

/** Read a reaction; only its kind decides the product. */
function readReaction(text, world) {
  const match = text.match(/\bundergoes an? (\w+) in .*\bWhich product forms: (.*)\?$/s);
  if (!match) throw new NotAProblem("A reaction reads “… undergoes a reduction in …. Which product forms: …?”.");
  const product = world.reactions[match[1]];
  if (!product) throw new NotAProblem(`The reaction “${match[1]}” is unknown; the world has ${listing(Object.keys(world.reactions))}.`);
  const options = match[2].split(/, | or /).map(option => option.replace(/^an? /, ""));
  if (!options.includes(product)) throw new NotAProblem("The right product is not among the options.");
  return {answer: product, message: `Well formed. The answer is ${product}.`};
}

/** Return the part of a completion after its thinking, as sdlab.text.prompt.strip_thinking. */
function stripThinking(text) {
  return text.replace(/^.*<\/think>\s*/s, "").replace(/<think>.*$/s, "").trim();
}

/** Return what the last \boxed{...} of a completion holds, or null. */
function boxedAnswer(text) {
  const start = text.lastIndexOf("\\boxed{");
  if (start < 0) return null;
  for (let at = start + 7, depth = 1; at < text.length; at++) {
    depth += {"{": 1, "}": -1}[text[at]] || 0;
    if (!depth) return text.slice(start + 7, at).trim();
  }
  return null;
}

/** Return whether a completion's boxed answer is right: equal as whole numbers, or equal as text. */
function isRight(text, answer) {
  const own = boxedAnswer(text), whole = /^-?\d+$/;
  return own !== null && (whole.test(own) && whole.test(answer) ? BigInt(own) === BigInt(answer) : own === answer);
}

/** Return [start, end, family] of every epistemic marker, whole words only; families: name -> its markers. */
function markerSpans(text, families) {
  const family = new Map(Object.entries(families).flatMap(([name, words]) => words.map(word => [word, name])));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}_])(?:${[...family.keys()].join("|")})(?![\\p{L}\\p{N}_])`, "giu");
  return [...text.matchAll(pattern)].filter(match => family.has(match[0].toLowerCase()))
    .map(match => [match.index, match.index + match[0].length, family.get(match[0].toLowerCase())]);
}

/** Return [mean, low, high] of values: Wilson's 95% interval for shares of 0 and 1, else mean and 1.96 errors. */
function interval(values, share) {
  const n = values.length, mean = values.reduce((sum, value) => sum + value, 0) / n, z = 1.96;
  if (share) {
    const centre = (mean + z * z / (2 * n)) / (1 + z * z / n);
    const half = z / (1 + z * z / n) * Math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n));
    return [mean, centre - half, centre + half];
  }
  const spread = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, n - 1);
  const half = n > 1 ? z * Math.sqrt(spread / n) : Infinity;
  return [mean, mean - half, mean + half];
}
