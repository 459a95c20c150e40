// Uploads of the submit page: files are dropped or chosen, sent one after the other with their progress, and named in the
// form by their references. Without this script the form sends the files itself.

const form = document.querySelector("[data-submit]");
const place = form?.querySelector("[data-drop]");
const told = form?.querySelector("[data-wait]");
const waiting = [];
let busy = null;
let wanted = false;

function row(file) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.textContent = file.name;
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Upload of ${file.name}`);
  const state = document.createElement("span");
  state.className = "quiet";
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "small";
  remove.textContent = "Remove";
  remove.addEventListener("click", () => {
    const at = waiting.findIndex((one) => one.item === item);
    if (at >= 0) waiting.splice(at, 1);
    if (busy?.item === item) busy.exchange.abort();
    item.remove();
  });
  item.append(name, bar, state, remove);
  place.querySelector("[data-uploads]").append(item);
  return { file, item, bar, state };
}

function add(files) {
  for (const file of files) waiting.push(row(file));
  work();
}

function work() {
  if (busy) return;
  busy = waiting.shift() ?? null;
  if (!busy) return settle();
  const one = busy;
  one.exchange = new XMLHttpRequest();
  one.exchange.open("POST", `/v1/files?name=${encodeURIComponent(one.file.name)}`);
  one.exchange.setRequestHeader("Content-Type", one.file.type || "application/octet-stream");
  one.exchange.responseType = "json";
  one.exchange.upload.onprogress = ({ loaded, total }) => {
    one.bar.value = loaded / total;
    one.state.textContent = `${Math.floor((loaded / total) * 100)} %`;
  };
  one.exchange.onloadend = () => {
    const { status, response } = one.exchange;
    if (status === 201) stored(one, response);
    else if (one.item.isConnected) failed(one, response?.detail ?? "The upload broke off.");
    busy = null;
    work();
  };
  one.exchange.send(one.file);
}

function stored(one, file) {
  one.bar.value = 1;
  one.state.textContent = "uploaded";
  // The reference, then the name of its file: the form is read in this order.
  for (const [name, value] of [[place.querySelector("textarea").name, file.reference], ["name", one.file.name]]) {
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = name;
    field.value = value;
    one.item.append(field);
  }
}

function failed(one, why) {
  one.item.classList.add("wrong");
  one.state.textContent = why;
  wanted = false;
}

function settle() {
  told.textContent = "";
  if (wanted && !form.querySelector(".uploads .wrong")) form.requestSubmit();
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
    if (!busy) return;
    // It goes off by itself once the files are there.
    event.preventDefault();
    wanted = true;
    told.textContent = "Waits for the uploads, then submits.";
  });
  addEventListener("beforeunload", (event) => {
    if (busy) event.preventDefault();
  });
}
