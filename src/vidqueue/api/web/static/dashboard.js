// Keeps a page current, and adds what only scripts can do. Every page works without it.
//
// The server tells by EventSource that something has happened; the page is then fetched again and morphed in place, so
// focus, typed text, open menus and players stay as they are. An event is a hint: what is shown always comes from the
// server's own page.

const KINDS = ["queued", "running", "progress", "output", "interrupted", "cancel_requested", "updated", "succeeded", "failed",
  "canceled", "paused", "resumed", "suspended", "schedule", "windows", "free_requested"];
const LEAST_MS = 1000;
const IDLE_MS = 30_000;
const main = () => document.getElementById("main");
const light = document.getElementById("live");
let source = null;
let address = "";
let timer = 0;
let fetching = false;
let again = false;
let fetchedAt = 0;
let repeating = 0;

function tell(kind, text) {
  light.hidden = !main().dataset.live;
  light.className = `live ${kind}`;
  light.firstElementChild.textContent = text;
}

function connect() {
  const wanted = main().dataset.live ?? "";
  if (source && wanted === address && source.readyState !== EventSource.CLOSED) return;
  source?.close();
  source = null;
  address = wanted;
  if (!wanted) return tell("", "");
  // A number above that of the newest event means from now on.
  source = new EventSource(`${wanted}?after=${Number.MAX_SAFE_INTEGER}`);
  source.onopen = () => { tell("", "Live"); soon(); };
  source.onerror = () => tell("lost", "Connecting");
  for (const kind of KINDS) source.addEventListener(kind, soon);
}

function disconnect() {
  source?.close();
  source = null;
  tell("rests", "Resting");
}

function soon() {
  if (fetching) { again = true; return; }
  if (!timer) timer = setTimeout(refresh, Math.max(0, fetchedAt + LEAST_MS - Date.now()));
}

async function refresh() {
  timer = 0;
  fetching = true;
  again = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.ok && !answer.redirected) morph(await answer.text());
  } catch {
    tell("lost", "Connecting");
  } finally {
    fetching = false;
    fetchedAt = Date.now();
    repeat();
  }
  if (again) soon();
}

function morph(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const fresh = page.getElementById("main");
  if (!fresh) return;
  // A notice is shown once by the server; it stays until the page is left.
  const notice = document.getElementById("notice");
  if (notice && !fresh.querySelector("#notice")) fresh.prepend(notice.cloneNode(true));
  const log = document.getElementById("log");
  const follows = log && log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  Idiomorph.morph(main(), fresh, {
    ignoreActiveValue: true,
    callbacks: {
      beforeNodeMorphed: (old) => !(old instanceof Element && old.matches("input, select, textarea, [data-keep]")),
      // What a person has opened stays open.
      beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS") && name !== "hidden",
    },
  });
  document.title = page.title;
  if (follows) scrollToEnd();
  dress();
  connect();
}

function scrollToEnd() {
  const log = document.getElementById("log");
  if (log) log.scrollTop = log.scrollHeight;
}

// A page that shows something under way without events is fetched again every so often, until it says no more.
function repeat() {
  clearTimeout(repeating);
  const every = Number(main().dataset.every);
  if (every && !document.hidden) repeating = setTimeout(soon, every);
}

// Shows what needs a script, and counts what is selected.
function dress() {
  repeat();
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
  const boxes = [...document.querySelectorAll("input[name=job]")];
  const chosen = boxes.filter((box) => box.checked).length;
  const count = document.querySelector("[data-count]");
  if (count) count.textContent = chosen ? `${chosen} selected` : "";
  const all = document.querySelector("[data-all]");
  if (all) {
    all.checked = chosen > 0 && chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
  }
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-all]")) {
    for (const box of document.querySelectorAll("input[name=job]")) box.checked = target.checked;
  }
  dress();
});

document.addEventListener("click", async ({ target }) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
  const button = target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return disconnect();
  connect();
  repeat();
});
// Ages and waiting times go on where nothing happens.
setInterval(() => { if (source && !document.hidden) soon(); }, IDLE_MS);
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
if (!location.hash) scrollToEnd();
dress();
