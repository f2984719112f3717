// A page knows how old it is: the server gives a sign of life every two seconds, and a page that has waited for six says
// so, greys what it shows, and offers the consoles of the other hosts.
for (const b of document.querySelectorAll("[data-print]")) {
  b.hidden = false;
  b.addEventListener("click", () => window.print());
}
(() => {
  const main = document.querySelector("main[sse-connect]");
  if (!main) return;
  const life = document.getElementById("life"), elsewhere = document.getElementById("elsewhere");
  const patience = 6;
  let last = Date.now();
  const heard = () => { last = Date.now(); };
  document.body.addEventListener("htmx:sseOpen", (e) => {
    heard();
    e.detail.source.addEventListener("beat", heard);
  });
  document.body.addEventListener("htmx:sseMessage", heard);
  // Who was logged out is asked to log in again, when the server lives.
  document.body.addEventListener("htmx:sseError", async () => {
    try {
      const r = await fetch(location.pathname, {method: "HEAD", redirect: "manual"});
      if (r.type === "opaqueredirect") location.reload();
    } catch { /* it is silent, which the clock below tells */ }
  });
  for (const a of elsewhere.querySelectorAll("[data-address]")) {
    const at = a.dataset.address;
    a.href = `https://${at.includes(":") ? `[${at}]` : at}:${location.port || 443}${location.pathname}`;
  }
  setInterval(() => {
    const silent = Math.floor((Date.now() - last) / 1000), is = silent >= patience;
    document.body.classList.toggle("silent", is);
    elsewhere.hidden = !is || !elsewhere.querySelector("a");
    const text = is ? life.dataset.silent.replace("%s", silent) : life.dataset.live;
    if (life.textContent !== text) life.textContent = text;
  }, 1000);
})();
// A log that grows is shown at its end, unless who reads it has scrolled away from there.
(() => {
  const log = () => document.querySelector("pre[data-end]");
  const toEnd = () => { log()?.scrollTo(0, log().scrollHeight); };
  let follows = true;
  document.body.addEventListener("htmx:sseBeforeMessage", () => {
    const x = log();
    follows = !x || x.scrollTop + x.clientHeight >= x.scrollHeight - 2;
  });
  document.body.addEventListener("htmx:sseMessage", () => { if (follows) toEnd(); });
  toEnd();
})();
// Where a text is edited: a finding's line is selected in it, and it is not left by mistake.
(() => {
  const text = document.getElementById("text");
  if (!text) return;
  for (const a of document.querySelectorAll("a[data-line]")) {
    a.addEventListener("click", (e) => {
      const lines = text.value.split("\n"), n = Number(a.dataset.line);
      const from = lines.slice(0, n - 1).reduce((sum, l) => sum + l.length + 1, 0);
      e.preventDefault();
      text.focus();
      text.setSelectionRange(from, from + (lines[n - 1] || "").length);
      text.scrollTop = text.scrollHeight * (n - 1) / lines.length - text.clientHeight / 2;
    });
  }
  let sent = false;
  text.form.addEventListener("submit", () => { sent = true; });
  addEventListener("beforeunload", (e) => {
    if (!sent && ("typed" in text.dataset || text.value !== text.defaultValue)) e.preventDefault();
  });
})();
