// Draws the description of the API, and sends what is filled in. The token stays in the page's input field.
"use strict";

const DESCRIPTION = "/api/v1/openapi.json";

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// What stands between backticks is code.
const prose = (text) => (text || "").split(/`([^`]+)`/).map((part, place) => (place % 2 ? element("code", {}, part) : part));
const pretty = (value) => JSON.stringify(value, null, 2);
const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

async function begin() {
  const calls = document.getElementById("calls");
  document.getElementById("signing").addEventListener("submit", (event) => event.preventDefault());
  try {
    const answer = await fetch(DESCRIPTION);
    if (!answer.ok) throw new Error(`it was answered with ${answer.status}`);
    draw(await answer.json(), calls);
  } catch (error) {
    calls.replaceChildren(element("p", { class: "bad", role: "alert" }, `The description could not be loaded: ${error.message}. Reload the page to try again.`));
  }
}

function draw(description, calls) {
  const groups = new Map();
  for (const [path, item] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(drawCall(method, path, operation));
    }
  }
  const about = element("p", {}, ...prose(description.info.description));
  const tags = [...groups.keys()].sort();
  const anchor = (tag) => tag.replaceAll(" ", "-");
  document.getElementById("contents").replaceChildren(...tags.map((tag) => element("a", { href: `#${anchor(tag)}` }, tag)));
  const sections = tags.map((tag) => element("section", { id: anchor(tag) }, element("h2", {}, tag), ...groups.get(tag)));
  calls.replaceChildren(about, ...sections);
}

function drawCall(method, path, operation) {
  const details = element(
    "details", { id: operation.operationId },
    element("summary", {},
      element("span", { class: `method ${method}` }, method.toUpperCase()),
      element("span", { class: "path" }, path),
      element("span", { class: "what" }, ...prose(operation.summary))),
  );
  // What is inside is made when it is first opened: there are many calls, and most stay closed.
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(drawInside(method, path, operation));
  });
  return details;
}

function drawInside(method, path, operation) {
  const fields = (operation.parameters || []).map((parameter) => ({ parameter, input: drawInput(parameter, operation) }));
  const content = operation.requestBody?.content["application/json"];
  const body = content ? drawBody(content) : null;
  const result = element("div", { "aria-live": "polite" });
  const send = element("button", { type: "submit" }, "Send");
  const needsToken = operation.security.length > 0;
  const form = element(
    "form", {},
    ...fields.map(({ parameter, input }) => element("div", { class: "field" },
      element("label", { for: input.id }, parameter.name + (parameter.required ? " *" : "")), input,
      parameter.description ? element("small", {}, ...prose(parameter.description)) : null)),
    body && body.drawn,
    element("div", { class: "row" }, send, element("span", {}, needsToken ? "With the token above." : "Needs no token.")),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const request = build(method, path, fields, body, needsToken);
    send.disabled = true;
    result.replaceChildren(element("p", {}, "Sending …"));
    result.replaceChildren(...(await exchange(request)));
    send.disabled = false;
  });
  return element(
    "div", {},
    operation.description ? element("p", {}, ...prose(operation.description)) : null,
    form, result, element("h3", {}, "Answers"), ...drawAnswers(operation.responses),
  );
}

function drawInput(parameter, operation) {
  const id = `${operation.operationId}-${parameter.name}`;
  const schema = parameter.schema || {};
  const choices = schema.enum || (schema.anyOf || []).flatMap((each) => each.enum || []);
  const required = Boolean(parameter.required);
  if (choices.length === 0) return element("input", { id, required, autocomplete: "off", spellcheck: "false" });
  const options = choices.filter((choice) => choice !== null).map((choice) => element("option", { value: choice }, choice));
  return element("select", { id, required }, element("option", { value: "" }, "–"), ...options);
}

function drawBody(content) {
  const examples = Object.entries(content.examples || {});
  const area = element("textarea", { "aria-label": "Body (JSON)", spellcheck: "false" });
  area.value = examples.length ? pretty(examples[0][1].value) : "{}";
  const choose = element(
    "select", { "aria-label": "Example", onchange: () => { area.value = pretty(examples[choose.selectedIndex][1].value); } },
    ...examples.map(([name]) => element("option", {}, name)),
  );
  const drawn = element("div", {}, element("h3", {}, "Body"), examples.length > 1 ? choose : null, area);
  return { drawn, area };
}

function drawAnswers(responses) {
  return Object.keys(responses).sort().map((status) => {
    const examples = Object.entries(responses[status].content?.["application/json"]?.examples || {});
    return element(
      "details", {},
      element("summary", {}, element("span", { class: `method ${status < "300" ? "good" : "bad"}` }, status),
        element("span", {}, ...prose(responses[status].description))),
      element("div", {}, ...examples.flatMap(([name, example]) => [element("h3", {}, name), element("pre", {}, pretty(example.value))])),
    );
  });
}

function build(method, path, fields, body, needsToken) {
  const query = new URLSearchParams();
  for (const { parameter, input } of fields) {
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.append(parameter.name, input.value);
  }
  const token = document.getElementById("token").value.trim();
  const headers = needsToken && token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const address = path + (query.size ? `?${query}` : "");
  return { address, options: { method: method.toUpperCase(), headers, body: body ? body.area.value : undefined, credentials: "omit" } };
}

async function exchange({ address, options }) {
  const curl = asCurl(address, options);
  try {
    const began = performance.now();
    const answer = await fetch(address, options);
    const text = await answer.text();
    const took = Math.round(performance.now() - began);
    const headers = ["tocsin-webhook-secret", "tocsin-warning", "retry-after"]
      .filter((name) => answer.headers.has(name)).map((name) => `${name}: ${answer.headers.get(name)}\n`).join("");
    return [
      element("h3", {}, "Answer"),
      element("p", { class: answer.ok ? "good" : "bad" }, `${answer.status} ${answer.statusText} in ${took} ms`),
      element("pre", {}, headers + readable(text)), element("h3", {}, "The same with curl"), element("pre", {}, curl),
    ];
  } catch (error) {
    return [element("p", { class: "bad", role: "alert" }, `Nothing answered: ${error.message}. Is the service running?`), element("pre", {}, curl)];
  }
}

function readable(text) {
  try {
    return pretty(JSON.parse(text));
  } catch {
    return text || "(no body)";
  }
}

function asCurl(address, options) {
  const lines = [`curl -X ${options.method} ${quoted(location.origin + address)}`];
  if (options.body !== undefined) lines.push("-H 'Content-Type: application/json'", `-d ${quoted(options.body)}`);
  // The token itself is not written out: what is on the screen may be copied or seen. What a shell puts in its place
  // comes on standard input: others on the machine can read command lines.
  if (options.headers.Authorization) lines.push("-H @- <<END\nAuthorization: Bearer $TOKEN\nEND");
  return lines.join(" \\\n  ");
}

begin();
