// Draws /openapi.json. Every text goes in as text, never as HTML.
"use strict";

function node(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function resolve(document_, schema) {
  return schema && schema.$ref ? schema.$ref.slice(2).split("/").reduce((at, key) => at[key], document_) : schema;
}

// An example of a schema: what its fields are, as JSON with types in the place of values.
function shape(document_, schema, depth = 0) {
  schema = resolve(document_, schema) || {};
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) {
    const parts = schema.anyOf.map((each) => shape(document_, each, depth));
    const objects = parts.filter((part) => typeof part === "object");
    return objects.length ? objects[0] : [...new Set(parts)].join(" | ");
  }
  if (schema.type === "array") return [shape(document_, schema.items, depth + 1)];
  if (schema.type === "object" && schema.properties && depth < 6) {
    return Object.fromEntries(
      Object.entries(schema.properties).map(([name, each]) => [name, shape(document_, each, depth + 1)]),
    );
  }
  return schema.format || schema.type || "any";
}

function example(document_, content) {
  return Object.entries(content || {}).map(([type, { schema }]) =>
    node("div", {}, node("p", { textContent: type }), node("pre", { textContent: JSON.stringify(shape(document_, schema), null, 2) })),
  );
}

function row(...cells) {
  return node("tr", {}, ...cells.map((cell) => node("td", {}, cell)));
}

function operation(document_, method, path, described) {
  const parts = [node("p", { textContent: described.description || "" })];
  if (described.parameters && described.parameters.length) {
    parts.push(node("h3", { textContent: "Parameters" }));
    parts.push(node("table", {}, ...described.parameters.map((each) =>
      row(node("code", { textContent: each.name }), each.in, String(shape(document_, each.schema)), each.required ? "required" : ""))));
  }
  if (described.requestBody) {
    parts.push(node("h3", { textContent: "Body" }), ...example(document_, described.requestBody.content));
  }
  parts.push(node("h3", { textContent: "Answers" }));
  parts.push(node("table", {}, ...Object.entries(described.responses).map(([code, each]) =>
    row(node("code", { textContent: code }), each.description || ""))));
  const good = Object.entries(described.responses).find(([code]) => code.startsWith("2"));
  if (good) parts.push(...example(document_, good[1].content));
  const role = described["x-role"] ? `role ${described["x-role"]}` : "no key";
  return node("details", {},
    node("summary", {}, node("code", { textContent: `${method.toUpperCase()} ${path}` }),
      node("span", { textContent: described.summary || "" }), node("span", { className: "role", textContent: role })),
    ...parts);
}

async function draw() {
  const main = document.getElementById("routes");
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`/openapi.json answered ${response.status}`);
  const document_ = await response.json();
  const byTag = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      const tag = (described.tags || ["Other"])[0];
      if (!byTag.has(tag)) byTag.set(tag, node("section", {}, node("h2", { textContent: tag })));
      byTag.get(tag).append(operation(document_, method, path, described));
    }
  }
  main.replaceChildren(...byTag.values());
  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase();
    for (const each of main.querySelectorAll("details")) {
      each.hidden = !each.textContent.toLowerCase().includes(words);
    }
  });
}

draw().catch((error) => {
  document.getElementById("routes").textContent = `The description could not be read: ${error.message}`;
});
