// The page of a guest's screen. It asks for a ticket, opens a WebSocket with it, and has noVNC show what comes. Words of the
// console come as text beside the bytes of the screen: that it is open, that the console lives, why it was closed. When it
// was closed because a host is gone or the guest has moved, it is opened again.
import RFB from "./novnc-1.7.0/core/rfb.js";

// Channel is what noVNC uses of a WebSocket.
class Channel {
  constructor(socket) {
    this.socket = socket;
    this.protocol = this.binaryType = "";
    this.onopen = this.onmessage = this.onclose = this.onerror = null;
  }
  get readyState() { return this.socket.readyState; }
  send(bytes) { this.socket.send(bytes); }
  close() { this.socket.close(); }
}

const page = document.getElementById("screen-page"), box = document.getElementById("screen"), said = page.dataset;
const state = document.getElementById("screen-state"), why = document.getElementById("screen-why");
const ask = document.getElementById("screen-ask"), again = document.getElementById("screen-again");
const patience = 6, tooLong = 20, slowest = 10; // seconds: silence that is told, silence that ends it, between two attempts
const clock = () => new Date().toTimeString().slice(0, 8);

let rfb = null, socket = null; // of the attempt that is on
let since = clock(), host = "", connected = false, last = 0, delay = 1, timer = 0, refused = "";

function show() {
  const silent = connected ? Math.floor((Date.now() - last) / 1000) : 0;
  const old = silent >= patience ? " " + said.silent.replace("%s", silent) : "";
  const text = (connected ? said.connected : said.not).replace("%s", since).replace("%s", host) + old;
  if (state.textContent !== text) state.textContent = text;
  state.className = connected && !old ? "good" : "bad";
  page.classList.toggle("on", connected);
  again.hidden = connected;
  for (const b of page.querySelectorAll("[data-typed]")) b.disabled = !connected;
}

const zh = document.documentElement.lang.startsWith("zh");

// tell says some things as one sentence.
function tell(...words) {
  const all = words.filter(Boolean).map((w) => w.replace(/[.。]$/, ""));
  const text = all.length ? all.join(zh ? "；" : "; ") + (zh ? "。" : ".") : "";
  if (why.textContent !== text) why.textContent = text;
}

// over notes that the screen is not shown any more, and why; with goesOn it is opened again after a while.
function over(words, goesOn) {
  if (connected) since = clock();
  connected = false;
  rfb = socket = null;
  ask.hidden = true;
  tell(...words, goesOn ? said.again : "");
  show();
  clearTimeout(timer);
  if (goesOn) timer = setTimeout(open, delay * 1000);
  delay = Math.min(2 * delay, slowest);
}

async function open() {
  clearTimeout(timer);
  if (socket) return;
  const mine = socket = {}; // until there is one: nobody begins another attempt
  let answer;
  try {
    const r = await fetch(location.pathname + "/ticket", {method: "POST", redirect: "manual"});
    if (r.type === "opaqueredirect") { // logged out
      location.reload();
      return;
    }
    answer = await r.json();
  } catch {
    over([said.gone], true);
    return;
  }
  if (socket !== mine) return;
  if (!answer.ticket) {
    over([answer.why, answer.remedy], answer.again);
    return;
  }
  const ws = socket = new WebSocket(`wss://${location.host}${location.pathname}/socket?ticket=${answer.ticket}`);
  const channel = new Channel(ws);
  ws.binaryType = "arraybuffer";
  let end = {why: said.lost, again: true}, was = false;
  refused = "";
  ws.onmessage = (e) => {
    last = Date.now();
    if (typeof e.data !== "string") {
      channel.onmessage?.(e);
      return;
    }
    const word = JSON.parse(e.data);
    if (word.why) end = word;
    if (word.open) host = word.open;
    if (word.open && !rfb) begin(ws, channel, () => { was = true; });
  };
  ws.onclose = (e) => {
    channel.onclose?.(e);
    if (socket !== ws) return;
    const byPage = was && end.why === said.lost && e.wasClean;
    over(refused ? [refused] : [byPage ? said.unknown : end.why, end.remedy], end.again && !refused && !byPage);
  };
}

// begin has noVNC speak with the guest's VNC server; closed is called when noVNC ends that by itself.
function begin(ws, channel, closed) {
  box.replaceChildren();
  rfb = new RFB(box, channel);
  rfb.scaleViewport = true;
  rfb.showDotCursor = true;
  rfb.background = "transparent";
  rfb.addEventListener("connect", () => {
    connected = true;
    since = clock();
    last = Date.now();
    delay = 1;
    ask.hidden = true;
    tell();
    show();
    rfb.focus();
  });
  rfb.addEventListener("credentialsrequired", (e) => {
    tell(said.password);
    ask.hidden = false;
    for (const f of ask.elements) if (f.name) f.closest("label").hidden = !e.detail.types.includes(f.name);
    ask.querySelector("label:not([hidden]) input").focus();
  });
  rfb.addEventListener("securityfailure", (e) => {
    refused = said.refused.replace(/[.。]$/, "") + (e.detail.reason ? ": " + e.detail.reason : "");
  });
  rfb.addEventListener("disconnect", () => {
    if (ws.readyState !== WebSocket.CLOSED) {
      closed();
      ws.close();
    }
  });
}

ask.addEventListener("submit", (e) => {
  e.preventDefault();
  rfb?.sendCredentials(Object.fromEntries(new FormData(ask)));
  ask.reset(); // it is not kept, here or elsewhere
  ask.hidden = true;
  tell();
});
again.addEventListener("click", () => {
  delay = 1;
  open();
});
document.getElementById("screen-keys").addEventListener("click", () => {
  rfb?.sendCtrlAltDel();
  rfb?.focus();
});
document.getElementById("screen-full").addEventListener("click", () => {
  page.querySelector(".frame").requestFullscreen();
  rfb?.focus();
});
setInterval(() => {
  show();
  if (connected && Date.now() - last > tooLong * 1000) { // a console that is frozen closes nothing
    const ws = socket;
    over([said.lost], true);
    ws?.close();
  }
}, 1000);
show();
open();
