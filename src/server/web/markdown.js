// Markdown to DOM nodes. No HTML is ever parsed: what a model writes can only become text in the
// few elements made here.

function element(name, ...children) {
  const node = document.createElement(name);
  node.append(...children);
  return node;
}

const kInline = /(`+)(.+?)\1|\*\*(.+?)\*\*|\*([^\s*][^*]*)\*|\[([^\]]+)\]\((https?:[^\s)]+)\)/s;

/** Code, bold, italics and links in one stretch of text. */
function inline(text) {
  const nodes = [];
  for (let match; (match = kInline.exec(text)); text = text.slice(match.index + match[0].length)) {
    nodes.push(text.slice(0, match.index));
    const [, ticks, code, bold, italic, label, target] = match;
    if (ticks) {
      nodes.push(element("code", code));
    } else if (bold) {
      nodes.push(element("strong", ...inline(bold)));
    } else if (italic) {
      nodes.push(element("em", ...inline(italic)));
    } else {
      const link = element("a", label);
      link.href = target;
      link.rel = "noopener noreferrer";
      link.target = "_blank";
      nodes.push(link);
    }
  }
  nodes.push(text);
  return nodes;
}

function codeBlock(lines) {
  const code = lines.join("\n");
  const copy = element("button", "Copy");
  copy.type = "button";
  copy.addEventListener("click", () => navigator.clipboard.writeText(code));
  return element("pre", element("code", code), copy);
}

function list(lines) {
  const ordered = /^\s*\d+[.)]/.test(lines[0]);
  const node = element(ordered ? "ol" : "ul");
  if (ordered) node.start = Number.parseInt(lines[0], 10);
  for (const line of lines) {
    const item = /^\s*(?:[-*+]|\d+[.)])\s+(.*)$/.exec(line);
    if (item) {
      node.append(element("li", ...inline(item[1])));
    } else {
      node.lastChild.append("\n", ...inline(line.trim()));
    }
  }
  return node;
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((text) => text.trim());
  const row = (line, name) => element("tr", ...cells(line).map((text) => element(name, ...inline(text))));
  const [head, , ...body] = lines;
  return element("table", element("thead", row(head, "th")),
                 element("tbody", ...body.map((line) => row(line, "td"))));
}

const kBlocks = [
  { begins: (line) => /^#{1,6}\s/.test(line), single: true,
    make: ([line]) => element(`h${Math.min(6, line.indexOf(" ") + 2)}`, ...inline(line.replace(/^#+\s+/, ""))) },
  { begins: (line) => /^\s*([-*_])(\s*\1){2,}\s*$/.test(line), single: true, make: () => element("hr") },
  { begins: (line) => /^\s*>/.test(line),
    make: (lines) => element("blockquote", ...render(lines.map((line) => line.replace(/^\s*>\s?/, "")).join("\n"))) },
  { begins: (line) => /^\s*(?:[-*+]|\d+[.)])\s/.test(line), goesOn: (line) => /^\s+\S/.test(line), make: list },
  { begins: (line, next) => line.includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(next ?? "") && next.includes("|"),
    goesOn: (line) => line.includes("|"), make: table },
];

/** The nodes that show `text`. Unfinished text, as of a stream, is shown as far as it goes. */
export function render(text) {
  const lines = text.split("\n");
  const nodes = [];
  for (let i = 0; i < lines.length;) {
    const fence = /^\s*(```+|~~~+)/.exec(lines[i]);
    if (fence) {
      let end = i + 1;
      while (end < lines.length && !lines[end].trimStart().startsWith(fence[1])) ++end;
      nodes.push(codeBlock(lines.slice(i + 1, end)));
      i = end + 1;
      continue;
    }
    if (lines[i].trim() === "") {
      ++i;
      continue;
    }
    const kind = kBlocks.find((block) => block.begins(lines[i], lines[i + 1]));
    let end = i + 1;
    const goesOn = (line, next) => kind
      ? !kind.single && (kind.begins(line, next) || kind.goesOn?.(line))
      : !/^\s*(```|~~~)/.test(line) && !kBlocks.some((block) => block.begins(line, next));
    while (end < lines.length && lines[end].trim() !== "" && goesOn(lines[end], lines[end + 1])) ++end;
    const block = lines.slice(i, end);
    nodes.push(kind ? kind.make(block) : element("p", ...inline(block.join("\n"))));
    i = end;
  }
  return nodes;
}
