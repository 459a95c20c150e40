// Compares the input and the output of a job in one picture: a slider moves the edge between them. Without this script they
// stand side by side.

function layer(source) {
  const copy = source.cloneNode();
  copy.removeAttribute("id");
  copy.removeAttribute("controls");
  copy.removeAttribute("loading");
  if (copy.tagName === "VIDEO") {
    copy.muted = true;
    copy.preload = "auto";
    copy.tabIndex = -1;
  }
  return copy;
}

function open(place, input, output) {
  const stage = place.querySelector(".stage");
  if (stage.childElementCount) return;
  const [under, over] = [layer(input), layer(output)];
  stage.append(under, over);
  const edge = place.querySelector("input[name=edge]");
  const cut = () => { over.style.clipPath = `inset(0 0 0 ${edge.value}%)`; };
  edge.addEventListener("input", cut);
  cut();
  const time = place.querySelector("input[name=time]");
  if (under.tagName !== "VIDEO" || over.tagName !== "VIDEO") return;
  time.parentElement.hidden = false;
  const seek = () => {
    for (const video of [under, over]) {
      if (Number.isFinite(video.duration)) video.currentTime = (video.duration * time.value) / 1000;
    }
  };
  time.addEventListener("input", seek);
  for (const video of [under, over]) video.addEventListener("loadedmetadata", seek);
}

const place = document.querySelector("[data-compare]");
const [input] = document.querySelectorAll(`figure[id^=input-] :is(video, img.picture)`);
const [output] = document.querySelectorAll(`figure[id^=output-] :is(video, img.picture)`);
if (place && input && output) {
  place.hidden = false;
  place.addEventListener("toggle", () => { if (place.open) open(place, input, output); });
}
