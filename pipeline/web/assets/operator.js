// Renews the page in place, and never what somebody is typing or has the focus in. Without it the page reloads itself.
"use strict";
(() => {
  const seconds = Number(document.body.dataset.refresh);

  const isBusy = page => page.contains(document.activeElement)
    || [...page.querySelectorAll("input, textarea")].some(one => one.value !== one.defaultValue);

  async function renew() {
    const page = document.getElementById("page");
    if (document.hidden || isBusy(page)) return;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", redirect: "error" });
    if (answer.status === 401) return location.reload();  // the session is over: show the login
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!isBusy(page)) page.innerHTML = fresh.getElementById("page").innerHTML;
  }

  // The gateway may be starting again: the next time answers.
  if (seconds) setInterval(() => renew().catch(() => undefined), 1000 * seconds);
})();
