
"use strict";
const live = document.getElementById("live");
const pause = document.getElementById("pause");
let source = null;
function show(event) {
  for (const [id, html] of Object.entries(JSON.parse(event.data))) {
    const part = document.getElementById(id);
    const hadFocus = part.contains(document.activeElement);
    part.innerHTML = html;
    if (hadFocus) part.querySelector("[tabindex]")?.focus();
  }
}
function say(text) {
  if (live.textContent !== text) live.textContent = text;
}
function start() {
  source = new EventSource("/events");
  source.onopen = () => say("live");
  source.onmessage = show;
  source.onerror = () => {
    say("not live, connecting again");
    if (source.readyState === EventSource.CLOSED) setTimeout(restart, 3000, source);
  };
}
function restart(of) {
  if (source === of) start();
}
pause.hidden = false;
pause.onclick = () => {
  if (source) {
    source.close();
    source = null;
    say("paused");
    pause.textContent = "Go on";
  } else {
    pause.textContent = "Pause";
    start();
  }
};
start();
