// Languages as data. A pattern must be linear: no nested repetition over the same characters.

import type { Kind } from "./index";

export interface Language {
  comment?: string;
  string?: string;
  /** What only this language has: tags, attributes, variables, diff lines. */
  special?: string;
  classify?: (text: string) => Kind;
  /** Keywords; absent when the language has no words and numbers of its own. */
  words?: Set<string>;
  types?: Set<string>;
  insensitive?: boolean;
  /** A string before a colon is a name (JSON). */
  names?: boolean;
}

const set = (words: string) => new Set(words.split(" "));
const DOUBLE = String.raw`"(?:\\[^]|[^"\\\n])*"?`;
const SINGLE = String.raw`'(?:\\[^]|[^'\\\n])*'?`;
const TEMPLATE = "`(?:\\\\[^]|[^`\\\\])*`?";
const C_COMMENT = String.raw`\/\/.*|\/\*[^]*?(?:\*\/|$(?![^]))`;
const HASH = String.raw`(?<![\w$])#.*`;

const cLike = (words: string, more: Partial<Language> = {}): Language => ({
  comment: C_COMMENT,
  string: `${DOUBLE}|${SINGLE}`,
  words: set(words),
  ...more,
});

const script = cLike(
  "abstract any as async await boolean break case catch class const continue debugger declare default delete do else enum export extends " +
    "false finally for from function get if implements import in instanceof interface keyof let namespace never new null number of private " +
    "protected public readonly return satisfies set static string super switch this throw true try type typeof undefined unknown var void while with yield",
  { string: `${DOUBLE}|${SINGLE}|${TEMPLATE}` },
);

const python: Language = {
  comment: "#.*",
  string: String.raw`[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$(?![^]))|'''[^]*?(?:'''|$(?![^]))|${DOUBLE}|${SINGLE})`,
  special: String.raw`^[ \t]*@[\w.]+`,
  words: set(
    "False None True and as assert async await break case class continue def del elif else except finally for from global if import in is " +
      "lambda match nonlocal not or pass raise return self try while with yield",
  ),
  types: set("int str float bool list dict tuple set bytes object"),
};

const rust: Language = {
  comment: C_COMMENT,
  string: String.raw`b?r?${DOUBLE}|r#"[^]*?"#|b?'(?:\\[^'\n]*|[^'\\\n])'`,
  special: String.raw`#!?\[[^\]\n]*\]|'[a-z_]\w*`,
  words: set(
    "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self " +
      "Self static struct super trait true type unsafe use where while yield",
  ),
  types: set("bool char f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize"),
};

const c = cLike(
  "alignas auto bool break case catch char class concept const constexpr continue default delete do double else enum explicit extern false " +
    "final float for friend if inline int long namespace new noexcept nullptr operator override private protected public register return " +
    "short signed sizeof static struct switch template this throw true try typedef typename union unsigned using virtual void volatile while",
  { special: String.raw`^[ \t]*#[ \t]*\w+` },
);

const java = cLike(
  "abstract as async await base bool boolean break byte case catch char class const continue data default do double else enum event extends " +
    "extension false final finally float for foreach fun func get guard if implements import in init int interface internal is let long " +
    "namespace new null object open override package private protected public readonly record return sealed self set short static string " +
    "struct super switch this throw throws true try using val var void when where while yield",
  { special: String.raw`@\w+` },
);

const go = cLike(
  "break case chan const continue default defer else fallthrough false for func go goto if import interface iota map nil package range " +
    "return select struct switch true type var",
  {
    string: `${DOUBLE}|${SINGLE}|${TEMPLATE}`,
    types: set("any bool byte error float32 float64 int int8 int16 int32 int64 rune string uint uint8 uint16 uint32 uint64 uintptr"),
  },
);

const shell: Language = {
  comment: HASH,
  string: String.raw`"(?:\\[^]|[^"\\])*"?|'[^']*'?`,
  special: String.raw`\$(?:\w+|\{[^}\n]*\}|[?@#*$!-])|(?<=\s)--?[A-Za-z][\w-]*`,
  words: set("case cd declare do done echo elif else esac eval exec exit export fi for function if in local read return set shift source sudo then trap unset until while"),
};

const ruby: Language = {
  comment: HASH,
  string: `${DOUBLE}|${SINGLE}`,
  special: String.raw`[@$]{1,2}\w+|(?<!:):\w+`,
  words: set(
    "alias and begin break case class def do else elsif end ensure false for if in module next nil not or redo require rescue retry return " +
      "self super then true undef unless until when while yield local function repeat goto",
  ),
};

const lua: Language = {
  comment: "--.*",
  string: `${DOUBLE}|${SINGLE}`,
  words: set("and break do else elseif end false for function goto if in local nil not or repeat return then true until while"),
};

const sql: Language = {
  comment: String.raw`--.*|\/\*[^]*?\*\/`,
  string: "'(?:''|[^'])*'?",
  words: set(
    "add all alter and as asc begin between by case check column commit constraint create cross default delete desc distinct drop else end " +
      "except exists false foreign from full group having if in index inner insert into is join key left like limit not null offset on or " +
      "order outer primary references returning right rollback select set table then true union unique update using values view when where with",
  ),
  types: set("int integer bigint text varchar char boolean date timestamp numeric real serial"),
  insensitive: true,
};

const json: Language = { string: DOUBLE, words: set("true false null"), names: true, comment: String.raw`\/\/.*` };

const config: Language = {
  comment: String.raw`(?<![^\s])[#;].*`,
  string: `${DOUBLE}|${SINGLE}`,
  special: String.raw`^[ \t]*\[.*\][ \t]*$|^[ \t]*(?:- )?[\w.\-/]+(?=[ \t]*[:=])`,
  words: set("true false null yes no on off"),
};

const markup: Language = {
  comment: String.raw`<!--[^]*?(?:-->|$(?![^]))`,
  string: String.raw`(?<==)(?:"[^"]*"?|'[^']*'?)`,
  special: String.raw`<\/?[A-Za-z][\w:.-]*|\/?>|(?<=\s)[\w:@.-]+(?==)`,
  classify: (text) => (/^[</>]/.test(text) ? "keyword" : "name"),
};

const css: Language = {
  comment: String.raw`\/\*[^]*?(?:\*\/|$(?![^]))`,
  string: `${DOUBLE}|${SINGLE}`,
  special: String.raw`@[\w-]+|--[\w-]+|[\w-]+(?=\s*:\s)|#[\da-fA-F]{3,8}\b|[.#][A-Za-z][\w-]*`,
  classify: (text) => (text.startsWith("@") ? "keyword" : /^#[\da-fA-F]{3,8}$/.test(text) ? "number" : /^[.#]/.test(text) ? "type" : "name"),
  words: set("important"),
};

const diff: Language = {
  comment: "^(?:diff|index|---|\\+\\+\\+|@@).*",
  special: "^[+-].*",
  classify: (text) => (text.startsWith("+") ? "added" : "removed"),
};

const docker: Language = {
  ...shell,
  words: set("from run cmd label expose env add copy entrypoint volume user workdir arg onbuild healthcheck shell as"),
  insensitive: true,
};

const LANGUAGES: [string, Language][] = [
  ["js javascript jsx mjs cjs ts typescript tsx svelte", script],
  ["py python python3 pyi", python],
  ["rs rust", rust],
  ["c h cpp c++ cc hpp cuda wgsl glsl zig", c],
  ["java kotlin kt cs csharp c# swift scala dart php", java],
  ["go golang", go],
  ["sh bash zsh shell console fish", shell],
  ["rb ruby elixir", ruby],
  ["lua", lua],
  ["sql sqlite postgres postgresql mysql", sql],
  ["json jsonc json5 ndjson", json],
  ["yaml yml toml ini properties env", config],
  ["html xml svg vue", markup],
  ["css scss less", css],
  ["diff patch", diff],
  ["dockerfile docker", docker],
];
const BY_NAME = new Map(LANGUAGES.flatMap(([names, rules]) => names.split(" ").map((name) => [name, rules] as const)));

export function language(name: string): Language | undefined {
  return BY_NAME.get(name.toLowerCase());
}
