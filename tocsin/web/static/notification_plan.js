// Dragging a dot along its line on the page of a server or a monitor changes after how long somebody is notified.
// The form beside it does the same without a pointer, and without this script.
"use strict";

const HELD = "[data-integration].held";
let drag = null;

function stops(card) {
  return card.querySelector("[data-stops]").dataset.stops.split(" ").map(Number);
}

function words(seconds) {
  return seconds ? `after ${lasting(seconds)}` : "at once";
}

function show(track, all, number) {
  track.querySelector("circle").setAttribute("cx", `${(100 * number) / (all.length - 1)}%`);
  track.closest("li").querySelector(".after").textContent = words(all[number]);
}

function nearest(track, all, x) {
  const line = track.querySelector("line").getBoundingClientRect();
  const part = Math.min(1, Math.max(0, (x - line.left) / line.width));
  return Math.round(part * (all.length - 1));
}

function cancel() {
  if (!drag) return;
  const { track, before, text, form } = drag;
  track.querySelector("circle").setAttribute("cx", before);
  track.closest("li").querySelector(".after").textContent = text;
  track.classList.remove("dragged");
  form.reset();
  drag = null;
}

document.addEventListener("pointerdown", (event) => {
  const track = event.target.closest?.(HELD);
  const form = document.getElementById("dragged");
  if (!track || !form || event.button || event.target.tagName !== "circle") return;
  event.preventDefault();
  const before = track.querySelector("circle").getAttribute("cx");
  const text = track.closest("li").querySelector(".after").textContent;
  drag = { track, form, before, text, all: stops(track.closest("section")), number: null };
  form.elements.integration.value = track.dataset.integration;  // unsent input: the page is not refreshed meanwhile
  track.classList.add("dragged");
  track.setPointerCapture(event.pointerId);
});

document.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const number = nearest(drag.track, drag.all, event.clientX);
  if (number === drag.number) return;
  drag.number = number;
  show(drag.track, drag.all, number);
});

document.addEventListener("pointerup", () => {
  if (!drag) return;
  const { form, all, number, text } = drag;
  if (number === null || words(all[number]) === text) { cancel(); return; }
  form.elements.after.value = all[number];
  drag = null;
  form.submit();
});

document.addEventListener("pointercancel", cancel);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") cancel(); });

document.documentElement.classList.add("draggable-here");
