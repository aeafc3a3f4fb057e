// Renews the page in place while its order is open, so that nothing flickers. Without it the page reloads itself.
"use strict";
(() => {
  const wait = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));

  async function renewed() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", redirect: "error" });
    if (!answer.ok) throw new Error(answer.status);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  }

  // What the reader has opened is still open afterwards, and is no difference.
  function keepOpened(part, fresh) {
    const details = fresh.querySelectorAll("details");
    part.querySelectorAll("details").forEach((one, number) => { if (details[number]) details[number].open = one.open; });
  }

  // Only what differs is replaced: a screen reader then says what is new, and nothing twice.
  function replace(order, fresh) {
    const now = fresh.getElementById("order"), parts = now.querySelectorAll("[data-part]");
    order.querySelectorAll("[data-part]").forEach((part, number) => {
      const bars = [part, parts[number]].map(one => one.querySelector("progress[value]"));
      if (bars[0] && bars[1]) [bars[0].max, bars[0].value] = [bars[1].max, bars[1].value];
      else {
        keepOpened(part, parts[number]);
        if (part.innerHTML !== parts[number].innerHTML) part.innerHTML = parts[number].innerHTML;
      }
    });
    order.className = now.className;
    order.dataset.refresh = now.dataset.refresh ?? "";
    document.title = fresh.title;
  }

  async function follow(order) {
    while (Number(order.dataset.refresh)) {
      await wait(Number(order.dataset.refresh) / 2);
      let fresh;
      try { fresh = await renewed(); } catch { await wait(5); continue; }  // the gateway restarts: ask again
      replace(order, fresh);
      const start = fresh.querySelector("head > meta[http-equiv=refresh]")?.content.split("url=")[1];
      if (start) location.assign(start);
    }
  }

  // Where the page was opened from a page of the information system, a link leads back there.
  const back = document.querySelector("a.back");
  if (history.length > 1) {
    back.hidden = false;
    back.addEventListener("click", event => { event.preventDefault(); history.back(); });
  }

  follow(document.getElementById("order"));
})();
