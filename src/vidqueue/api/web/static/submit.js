// Uploads of the submit page: files are dropped or chosen, sent one after the other with their progress, and named in the
// form by their references. An upload that breaks off goes on where it stopped (tus): by itself while the page is open, and
// when the same file is chosen again later. What has arrived stays in the form when the page is left and opened again.
// Without this script the form sends the files itself.

const form = document.querySelector("[data-submit]");
const place = form?.querySelector("[data-drop]");
const told = form?.querySelector("[data-wait]");
const RETRIES_MS = [0, 500, 1500, 3000, 6000, 10_000];
const STORED = "vidqueue-uploads";
const SENT = "vidqueue-uploads-sent";
const known = tus.defaultOptions.urlStorage;
const waiting = [];
let busy = null;
let wanted = null;

function element(tag, more = {}) {
  return Object.assign(document.createElement(tag), more);
}

function row(name) {
  const item = element("li");
  const bar = element("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `Upload of ${name}`);
  const state = element("span", { className: "quiet" });
  const remove = element("button", { type: "button", className: "small", textContent: "Remove" });
  item.append(element("span", { textContent: name }), bar, state, remove);
  place.querySelector("[data-uploads]").append(item);
  return { name, item, bar, state, remove };
}

function show(one, sent, total) {
  one.bar.value = total ? sent / total : 0;
  one.state.textContent = `${Math.floor(one.bar.value * 100)} %`;
}

// What has arrived is kept for this tab, so that it is still in the form after a look at another page.
function remembered() {
  return JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
}

function remember(files) {
  sessionStorage.setItem(STORED, JSON.stringify(files));
}

function add(files) {
  for (const file of files) {
    const one = { file, ...row(file.name) };
    one.remove.addEventListener("click", () => giveUp(one));
    waiting.push(one);
  }
  work();
}

function giveUp(one) {
  const at = waiting.indexOf(one);
  if (at >= 0) waiting.splice(at, 1);
  one.upload?.abort(true);
  one.item.remove();
  if (busy === one) next();
}

function next() {
  busy = null;
  work();
}

async function work() {
  if (busy) return;
  busy = waiting.shift() ?? null;
  if (!busy) return settle();
  const one = busy;
  one.upload = new tus.Upload(one.file, {
    endpoint: "/v1/uploads",
    retryDelays: RETRIES_MS,
    removeFingerprintOnSuccess: true,
    metadata: { filename: one.file.name, filetype: one.file.type || "application/octet-stream" },
    onProgress: (sent, total) => show(one, sent, total),
    onSuccess: () => {
      stored(one, `vq:files/${one.upload.url.split("/").pop()}`);
      remember([...remembered(), { name: one.name, reference: one.reference }]);
      next();
    },
    onError: (error) => {
      if (one.item.isConnected) failed(one, reason(error));
      next();
    },
  });
  const [earlier] = await one.upload.findPreviousUploads();
  if (earlier) {
    one.upload.resumeFromPreviousUpload(earlier);
    place.querySelector(`[data-key="${CSS.escape(earlier.urlStorageKey)}"]`)?.remove();
  }
  if (one.item.isConnected) one.upload.start();
}

function reason(error) {
  try {
    return JSON.parse(error.originalResponse.getBody()).detail;
  } catch {
    return "The upload broke off. Choose the file again to go on.";
  }
}

function stored(one, reference) {
  one.reference = reference;
  one.bar.value = 1;
  one.state.textContent = "uploaded";
  // The reference, then the name of its file: the form is read in this order.
  for (const [name, value] of [[place.querySelector("textarea").name, reference], ["name", one.name]]) {
    one.item.append(element("input", { type: "hidden", name, value }));
  }
  one.remove.addEventListener("click", () => {
    remember(remembered().filter((file) => file.reference !== reference));
    one.item.remove();
  });
}

function failed(one, why) {
  one.item.classList.add("wrong");
  one.state.textContent = why;
  wanted = null;
}

function settle() {
  told.textContent = "";
  if (wanted && !form.querySelector(".uploads .wrong")) form.requestSubmit(wanted);
}

// An upload that an earlier page has left: how much has arrived, and how to go on with it.
async function left(earlier) {
  const answer = await fetch(earlier.uploadUrl, { method: "HEAD", headers: { "Tus-Resumable": "1.0.0" } });
  const offset = Number(answer.headers.get("Upload-Offset"));
  if (!answer.ok || offset >= earlier.size) return known.removeUpload(earlier.urlStorageKey);
  const one = row(earlier.metadata.filename);
  one.item.dataset.key = earlier.urlStorageKey;
  show(one, offset, earlier.size);
  one.state.textContent += " arrived; choose the file again to go on";
  one.remove.addEventListener("click", async () => {
    one.item.remove();
    await tus.Upload.terminate(earlier.uploadUrl);
    await known.removeUpload(earlier.urlStorageKey);
  });
}

async function restore() {
  // A form that was refused, or only checked, has the references as text; the files are shown by their names again.
  const box = place.querySelector("textarea");
  const lines = box.value.split("\n").map((line) => line.trim());
  const kept = remembered().filter((file) => lines.includes(file.reference) || !sessionStorage.getItem(SENT));
  sessionStorage.removeItem(SENT);
  remember(kept);
  box.value = lines.filter((line) => !kept.some((file) => file.reference === line)).join("\n");
  for (const file of kept) stored(row(file.name), file.reference);
  for (const earlier of await known.findAllUploads()) await left(earlier).catch(() => {});
}

if (place) {
  const chooser = place.querySelector("input[type=file]");
  place.querySelector("[data-hint]").textContent = "Drop files here. Several files make a job each.";
  chooser.addEventListener("change", () => {
    add(chooser.files);
    // The form must not send them once more.
    chooser.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) {
    place.addEventListener(kind, (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) place.addEventListener(kind, () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    add(event.dataTransfer.files);
  });
  form.addEventListener("submit", (event) => {
    if (!busy) return event.submitter?.name === "check" || sessionStorage.setItem(SENT, "yes");
    // It goes off by itself once the files are there.
    event.preventDefault();
    wanted = event.submitter ?? form.querySelector(".primary");
    told.textContent = "Waits for the uploads, then submits.";
  });
  addEventListener("beforeunload", (event) => {
    if (busy) event.preventDefault();
  });
  restore();
}
