// Renews the page in place, and never what somebody is typing. What could not be renewed is greyed, and a sign says
// since when. Without this script the page reloads itself.
"use strict";
(() => {
  const seconds = Number(document.body.dataset.refresh);
  const page = document.getElementById("page"), sign = document.getElementById("not-renewed");
  let renewedAt = Date.now();

  const isTypedIn = () => [...page.querySelectorAll("input, textarea, select")].some(field =>
    field === document.activeElement || ("defaultValue" in field && field.value !== field.defaultValue));

  const linksTo = address => [...page.querySelectorAll("a")].filter(link => link.getAttribute("href") === address);

  function replace(content) {
    const held = document.activeElement, address = page.contains(held) && held.getAttribute("href");
    const place = address ? linksTo(address).indexOf(held) : -1;
    page.innerHTML = content;
    if (place < 0) return;
    const same = linksTo(address);  // Who goes from link to link by keyboard does not begin again at the top.
    (same[place] || same[0])?.focus({ preventScroll: true });
  }

  function say(isOld) {
    document.body.classList.toggle("old", isOld);
    const made = page.querySelector("#made").textContent, words = isOld ? sign.dataset.words.replace("{time}", made) : "";
    if (sign.textContent !== words) sign.textContent = words;  // What has been said is not read out again.
  }

  async function fetched() {
    const patience = new AbortController(), timer = setTimeout(() => patience.abort(), 1000 * seconds);
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" }, cache: "no-store", redirect: "error", signal: patience.signal });
      if (answer.status === 401) location.reload();  // the session is over: show the login
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("page");
      if (!fresh.querySelector("#made")) throw new Error("this is another page, perhaps the login of a proxy");
      return fresh.innerHTML;
    } finally {
      clearTimeout(timer);
    }
  }

  async function renew() {
    if (document.hidden) return;
    if (Date.now() - renewedAt > 2500 * seconds) say(true);  // Some rounds were left out, or hang.
    if (isTypedIn()) return;
    try {
      const content = await fetched();
      if (isTypedIn()) return;
      replace(content);
      renewedAt = Date.now();
      say(false);
    } catch {
      say(true);
    }
  }

  if (!seconds || !sign) return;
  setInterval(renew, 1000 * seconds);
  document.addEventListener("visibilitychange", renew);
})();
