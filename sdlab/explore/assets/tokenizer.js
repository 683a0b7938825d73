// The tokenizer of the model, from its own tokenizer.json: added tokens, words, bytes, byte-pair merges.
"use strict";

/** Return GPT-2's printable letter of every byte. */
function byteLetters() {
  const letters = new Array(256);
  let extra = 256;
  for (let byte = 0; byte < 256; byte++) {
    const plain = (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte !== 173);
    letters[byte] = String.fromCharCode(plain ? byte : extra++);
  }
  return letters;
}

/** Return a regular expression of the tokenizers library (Oniguruma) as one of JavaScript. */
function portable(pattern) {
  return pattern.replace(/\\(.)/gs, (whole, letter) => ({
    s: "\\p{White_Space}", S: "\\P{White_Space}", d: "\\p{Nd}", D: "\\P{Nd}", // Unicode, as in Oniguruma
  })[letter] || (/[A-Za-z0-9\\^$.*+?()[\]{}|/-]/.test(letter) ? whole : letter));
}

class Tokenizer {
  /** file: the content of tokenizer.json. */
  constructor(file) {
    this.vocabulary = new Map(Object.entries(file.model.vocab));
    this.merges = new Map(file.model.merges.map((pair, rank) =>
      [typeof pair === "string" ? pair : pair.join(" "), rank]));
    this.wholeWords = file.model.ignore_merges;
    this.special = new Set(file.added_tokens.filter(token => token.special).map(token => token.id));
    this.added = new Map(file.added_tokens.map(token => [token.content, token.id]));
    this.names = [];
    for (const [name, id] of this.vocabulary) this.names[id] = name;
    for (const [name, id] of this.added) this.names[id] = name;
    const escaped = [...this.added.keys()].sort((a, b) => b.length - a.length)
      .map(name => name.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
    this.addedPattern = new RegExp(`(${escaped.join("|")})`, "u");
    const steps = file.pre_tokenizer.pretokenizers || [file.pre_tokenizer];
    this.piecePattern = new RegExp(portable(steps.find(step => step.type === "Split").pattern.Regex), "gu");
    this.letters = byteLetters();
    this.bytes = new Map(this.letters.map((letter, byte) => [letter, byte]));
  }

  /** Return the token ids of a text. */
  encode(text) {
    return text.split(this.addedPattern).flatMap(part =>
      this.added.has(part) ? [this.added.get(part)] : this.pieces(part).flatMap(piece => this.word(piece)));
  }

  /** Return the pieces of a text: the matches of the pattern, and what lies between them. */
  pieces(text) {
    const pieces = [];
    let at = 0;
    for (const match of text.matchAll(this.piecePattern)) {
      pieces.push(text.slice(at, match.index), match[0]);
      at = match.index + match[0].length;
    }
    return [...pieces, text.slice(at)].filter(piece => piece);
  }

  /** Return the token ids of one piece. */
  word(piece) {
    let parts = Array.from(new TextEncoder().encode(piece), byte => this.letters[byte]);
    const whole = this.vocabulary.get(parts.join(""));
    if (this.wholeWords && whole !== undefined) return [whole];
    for (;;) {
      let best = -1, rank = Infinity;
      for (let i = 0; i + 1 < parts.length; i++) {
        const one = this.merges.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (one < rank) [best, rank] = [i, one];
      }
      if (best < 0) return parts.map(part => this.vocabulary.get(part));
      parts = [...parts.slice(0, best), parts[best] + parts[best + 1], ...parts.slice(best + 2)];
    }
  }

  /** Return the text of token ids, without special tokens unless `all`. */
  decode(ids, all = false) {
    let text = "", bytes = [];
    const flush = () => {
      text += new TextDecoder("utf-8", {ignoreBOM: true}).decode(Uint8Array.from(bytes));
      bytes = [];
    };
    for (const id of ids) {
      const name = this.names[id] ?? "";
      if (this.added.get(name) === id) {
        flush();
        if (all || !this.special.has(id)) text += name;
      } else for (const letter of name) bytes.push(this.bytes.get(letter) ?? 63);
    }
    flush();
    return text;
  }
}
