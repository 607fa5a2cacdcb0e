// What the pages do beyond HTML: times in the viewer's zone, confirmations, live updates, previews, copying. All of it is optional:
// every page works without it.
"use strict";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function lasting(seconds) {
  let left = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || parts.length) parts.push([count, unit]);
  }
  return parts.slice(0, 2).filter(([count]) => count).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    if (!element.hasAttribute("data-ago")) {
      element.textContent = whole.format(at);
      element.title = element.dateTime;
      continue;
    }
    const seconds = (Date.now() - at) / 1000;
    element.title = whole.format(at);
    element.textContent = seconds >= 1 ? `${lasting(seconds)} ago` : seconds < -1 ? `in ${lasting(-seconds)}` : "just now";
  }
}

// ------------------------------------------------------------------------------------------------- confirmations

function confirmFirst(form) {
  const dialog = document.createElement("dialog");
  const words = document.createElement("p");
  const row = document.createElement("div");
  const stay = document.createElement("button");
  const go = document.createElement("button");
  words.textContent = form.dataset.confirm;
  words.id = "confirm-words";
  dialog.setAttribute("aria-labelledby", words.id);
  row.className = "row";
  stay.type = go.type = "button";
  stay.className = "quiet";
  stay.textContent = form.dataset.confirmNo || "Cancel";
  go.className = "danger";
  go.textContent = form.dataset.confirmYes || form.querySelector("button:not([type=button])")?.textContent.trim() || "Continue";
  stay.addEventListener("click", () => dialog.close());
  go.addEventListener("click", () => { form.dataset.confirmed = "yes"; dialog.close(); form.requestSubmit(form.lastButton); });
  dialog.addEventListener("close", () => dialog.remove());
  row.append(stay, go);
  dialog.append(words, row);
  document.body.append(dialog);
  dialog.showModal();
  stay.focus();
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && form.dataset.confirmed !== "yes") {
    event.preventDefault();
    form.lastButton = event.submitter;
    confirmFirst(form);
  }
});

// ---------------------------------------------------------------------------------------------------- live parts

let refreshing = false;
let again = false;

async function refresh() {
  if (refreshing) { again = true; return; }
  if (document.querySelector("dialog[open]")) { setTimeout(refresh, 1000); return; }
  refreshing = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") { location.reload(); return; }
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live][id]")) {
      const part = fresh.getElementById(old.id);
      if (part && !part.isEqualNode(old.asItCame || null) && !busy(old)) replace(old, part);
    }
  } catch {
    // The next change retries.
  } finally {
    refreshing = false;
    if (again) { again = false; setTimeout(refresh, 1000); }
  }
}

// Whether somebody is typing there, or has input that is not submitted yet.
function busy(element) {
  const changed = (each) => {
    if (each.tagName === "SELECT") {
      return each.selectedIndex !== Math.max(0, [...each.options].findIndex((option) => option.defaultSelected));
    }
    if (/^(checkbox|radio)$/.test(each.type)) return each.checked !== each.defaultChecked;
    return each.value !== each.defaultValue;
  };
  return [...element.querySelectorAll("input, select, textarea")]
    .some((each) => each === document.activeElement || changed(each));
}

function replace(old, part) {
  const open = new Set([...old.querySelectorAll("details[open][id]")].map((each) => each.id));
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const fresh = document.importNode(part, true);
  fresh.asItCame = part;
  old.replaceWith(fresh);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus();
  showTimes(fresh);
}

function watch() {
  const parts = document.querySelectorAll("[data-live][id]");
  // The response to a refused form is not refreshed: its address is the form's, not the page's.
  if (!parts.length || !document.body.hasAttribute("data-current")) return;
  const topics = [...parts].flatMap((each) => each.dataset.live.split(" ")).filter(Boolean);
  const every = [...parts].every((each) => each.dataset.live);
  const source = new EventSource(every ? `/live?of=${[...new Set(topics)].join(",")}` : "/live");
  source.addEventListener("changed", refresh);
  source.addEventListener("open", refresh);  // for changes since the page was rendered, or while the stream was lost
  window.addEventListener("pagehide", () => source.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

// ------------------------------------------------------------------------------------------------------ previews

// A form with data-preview shows in that element what its preview button would, while somebody types.
let previewTimer = 0;
let previewAsked = 0;

async function preview(form) {
  const asked = ++previewAsked;
  const fields = new URLSearchParams(new FormData(form));
  fields.set("do", "preview");
  try {
    const answer = await fetch(form.action, { method: "POST", body: fields, headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const old = document.getElementById(form.dataset.preview);
    if (asked !== previewAsked || !old) return;
    const fresh = page.getElementById(old.id);
    if (answer.ok && fresh) { replace(old, fresh); return; }
    // While something cannot be accepted, the last preview stays, and says what it is.
    const words = old.querySelector(".error") ?? old.insertBefore(document.createElement("p"), old.firstChild);
    words.className = "error";
    words.textContent = page.querySelector(".error")?.textContent ?? "";
  } catch {
    // The next change retries.
  }
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-preview]");
  if (!form) return;
  clearTimeout(previewTimer);
  previewTimer = setTimeout(() => preview(form), 600);
});

// --------------------------------------------------------------------------------------------- copying and menus

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText((source?.value ?? source?.textContent ?? "").trim());
    } catch {
      // Without https there is no clipboard API; a selection can still be copied.
      if (source?.select) source.select(); else getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  }
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.removeAttribute("open");
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.removeAttribute("open");
    menu.querySelector("summary").focus();
  }
});

document.cookie = `zone=${encodeURIComponent(zone)}; Path=/; Max-Age=31536000; SameSite=Lax`;
for (const element of document.querySelectorAll("[data-live][id]")) element.asItCame = element.cloneNode(true);
showTimes(document);
setInterval(() => showTimes(document), 15000);
watch();
